"""MovieLens-100K: will the viewer rate a film with four stars or more? Split by time.

    ml-100k/u.data.gz, u.item.gz, u.user, u.occupation

Harper and Konstan 2015; its terms forbid redistribution: Evergreen ships without it. The oldest
80 % of the ratings are trained on, the next 10 % validate, the newest 10 % test. Of the tested
ratings, 14 % are of viewers with an earlier one, because a viewer rates nearly all films in one
sitting: figures of random splits are not comparable. All kinds are trained by FuxiCTR's recipe for
Frappe (`jobs.reports.recipe`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from jobs.reports.datasets import MIN_STARS
from jobs.reports.recipe import RecipeTrial, day_of
from models.features import Categorical, Day, FeatureSpec

RATINGS = Path("ml-100k/u.data.gz")
FILMS = Path("ml-100k/u.item.gz")
VIEWERS = Path("ml-100k/u.user")
OCCUPATIONS = Path("ml-100k/u.occupation")
TRAINED, VALIDATED = 0.8, 0.1  # shares of the ratings, oldest first
GENRES = 19
DECADE, DECADES = 10, 11  # of films' years, from 1900 on, and of viewers' ages
SIZES = {  # buckets of a column; the first value is 0
    "viewer": 943,
    "film": 1682,
    "age": DECADES,
    "gender": 2,
    "occupation": 21,
    "decade": DECADES,
    "hour": 24,
    "weekday": 7,
}
# A film has several genres: their columns are one field.
SPEC = FeatureSpec(
    categorical=(
        *[Categorical(f"hash_{name}", size, name) for name, size in SIZES.items()],
        *[Categorical(f"hash_genre_{number}", 2, "genres") for number in range(GENRES)],
    ),
    numeric=(),
    labels=("label_liked",),
    vector_dim=0,
)


class MovieLens(RecipeTrial):
    """The trial; see above."""

    data = "ml-100k"
    files = (RATINGS, FILMS, VIEWERS, OCCUPATIONS)
    spec = SPEC

    def read(self, folder: Path) -> tuple[Day, Day]:
        rows = read_ratings(folder)
        trained = int(TRAINED * len(rows))
        validated = trained + int(VALIDATED * len(rows))
        every = np.arange(len(rows))
        self.trained = rows.reordered(every[:trained])
        return rows.reordered(every[trained:validated]), rows.reordered(every[validated:])

    def keep(self, rows: int) -> None:
        self.trained = self.trained.last(rows)

    def training_rows(self, rng: np.random.Generator) -> Day:
        return self.trained


def read_ratings(folder: Path) -> Day:
    """All ratings in the order of time, those of one second by viewer and film."""
    names = ["viewer", "film", "stars", "time"]
    ratings = pd.read_csv(folder / RATINGS, sep="\t", names=names)
    ratings = ratings.sort_values(["time", "viewer", "film"], kind="stable")
    times = pd.to_datetime(ratings["time"], unit="s", utc=True)
    viewers = read_viewers(folder).loc[ratings["viewer"]]
    decades, genres = read_films(folder)
    films = ratings["film"].to_numpy() - 1
    columns = [
        ratings["viewer"].to_numpy() - 1,
        films,
        viewers["age"].to_numpy() // DECADE,
        (viewers["gender"] == "F").to_numpy(),
        viewers["occupation"].to_numpy(),
        decades[films],
        times.dt.hour.to_numpy(),
        times.dt.weekday.to_numpy(),
    ]
    categories = np.column_stack([*columns, genres[films]]).astype(np.int64)
    liked = (ratings["stars"] >= MIN_STARS).to_numpy(np.float32)
    return day_of("ratings", categories, liked)


def read_viewers(folder: Path) -> pd.DataFrame:
    """age, gender and number of the occupation, by viewer."""
    names = ["viewer", "age", "gender", "occupation", "zip"]
    table = pd.read_csv(folder / VIEWERS, sep="|", names=names, index_col="viewer")
    known = (folder / OCCUPATIONS).read_text().split()
    table["occupation"] = table["occupation"].map(known.index)
    return table


def read_films(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Decade since 1900, (films,), 0 where unknown; genres 0/1, (films, GENRES)."""
    table = pd.read_csv(folder / FILMS, sep="|", header=None, encoding="latin-1")
    years = table[2].str[-4:].astype(float).fillna(1900)  # "01-Jan-1995"
    decades = (years - 1900) // DECADE
    genres = table.iloc[:, -GENRES:].to_numpy()
    return decades.to_numpy(np.int64), genres
