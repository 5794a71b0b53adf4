"""Data sets as one matrix of strengths: two public ones, which are for measuring only.

    hetrec2011-lastfm-2k/user_artists.dat.gz     listening counts; Cantador et al. 2011,
                                                 non-commercial use
    ml-100k/u.data.gz                            ratings of films; GroupLens, no redistribution

Evergreen ships with neither. They are read from the folder that `--data` or EVERGREEN_DATA names;
without it, or without a file, the data set is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

LASTFM = Path("hetrec2011-lastfm-2k/user_artists.dat.gz")
MOVIELENS = Path("ml-100k/u.data.gz")
MIN_STARS = 4  # a film with at least as many stars was liked


@dataclass(frozen=True)
class Engagements:
    """strengths: (n_consumers, n_producers), > 0 where there was an engagement."""

    name: str
    strengths: sp.csr_matrix


def read_lastfm(file: Path) -> Engagements:
    """User x artist, log(1 + listening count)."""
    table = pd.read_csv(file, sep="\t")
    strengths = np.log1p(table["weight"].to_numpy())
    return Engagements("lastfm", matrix(table["userID"], table["artistID"], strengths))


def read_movielens(file: Path) -> Engagements:
    """User x film with at least MIN_STARS stars, strength 1."""
    table = pd.read_csv(file, sep="\t", names=["user", "film", "stars", "time"])
    liked = table[table["stars"] >= MIN_STARS]
    return Engagements("ml-100k", matrix(liked["user"], liked["film"], np.ones(len(liked))))


READERS: dict[str, tuple[Path, Callable[[Path], Engagements]]] = {
    "lastfm": (LASTFM, read_lastfm),
    "ml-100k": (MOVIELENS, read_movielens),
}


def matrix(consumers: pd.Series, producers: pd.Series, strengths: np.ndarray) -> sp.csr_matrix:
    """One row per consumer and one column per producer, by sorted id; repeated pairs are summed."""
    rows, _ = pd.factorize(consumers, sort=True)
    columns, _ = pd.factorize(producers, sort=True)
    return sp.csr_matrix((strengths, (rows, columns)))


def public_data(folder: Path | None) -> tuple[list[Engagements], list[str]]:
    """The data sets that are in the folder, and one message for each that is left out."""
    data_sets = []
    messages = []
    for name, (file, reader) in READERS.items():
        if folder is None:
            problem = "no data folder is set"
        elif not (folder / file).exists():
            problem = f"{folder} has no {file}"
        else:
            data_sets.append(reader(folder / file))
            continue
        messages.append(
            f"{name} left out: {problem}. "
            f"Name the folder that contains {file} with --data or EVERGREEN_DATA."
        )
    return data_sets, messages
