"""Data sets as one matrix of strengths: the log of the settings, and two that are for measuring only.

    hetrec2011-lastfm-2k/user_artists.dat.gz     listening counts; Cantador et al. 2011, non-commercial use
    ml-100k/u.data.gz                            ratings of films; GroupLens, not to be passed on

Neither comes with Evergreen. They are looked for in a folder, and left out where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

LIKED = 4  # a film with at least as many stars was liked


@dataclass(frozen=True)
class Engagements:
    """strengths: (n_consumers, n_producers) > 0 where there was an engagement."""

    name: str
    strengths: sp.csr_matrix


def default_folder() -> Path:
    """Where measuring data lies unless EVERGREEN_DATA or --data says otherwise."""
    return Path(__file__).parents[2].parent / "shared" / "data"


def lastfm(folder: Path) -> Engagements | None:
    """User x artist, log(1 + listening count); None where the file is not there."""
    if not (file := folder / "hetrec2011-lastfm-2k" / "user_artists.dat.gz").exists():
        return None
    table = pd.read_csv(file, sep="\t")
    return Engagements(
        "lastfm", matrix(table["userID"], table["artistID"], np.log1p(table["weight"].to_numpy()))
    )


def movielens(folder: Path) -> Engagements | None:
    """User x film rated LIKED or better, strength 1; None where the file is not there."""
    if not (file := folder / "ml-100k" / "u.data.gz").exists():
        return None
    table = pd.read_csv(file, sep="\t", names=["user", "film", "stars", "time"])
    liked = table[table["stars"] >= LIKED]
    return Engagements("ml-100k", matrix(liked["user"], liked["film"], np.ones(len(liked))))


def matrix(consumers: pd.Series, producers: pd.Series, strengths: np.ndarray) -> sp.csr_matrix:
    """One row a consumer and one column a producer, by sorted id; repeated pairs are summed."""
    rows, columns = (pd.factorize(ids, sort=True)[0] for ids in (consumers, producers))
    return sp.csr_matrix((strengths, (rows, columns)))


def measuring_data(folder: Path) -> tuple[list[Engagements], list[str]]:
    """The data sets that are there, and a line on each that is not."""
    found, missing = [], []
    for name, reader in (("lastfm", lastfm), ("ml-100k", movielens)):
        if (data := reader(folder)) is not None:
            found.append(data)
        else:
            missing.append(
                f"{name} left out: it is not in {folder}. Name its folder with --data or EVERGREEN_DATA."
            )
    return found, missing
