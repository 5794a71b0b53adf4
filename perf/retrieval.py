"""Data sets split in time, for measuring retrieval: KuaiRand as bundled, and two public ones.

The public ones are read from the folder that EVERGREEN_DATA names, and left out without it:
MovieLens-100K, whose last fifth of every user's liked films is the test, and Last.fm, which has no
times and is split at random (`jobs.reports.datasets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from embeddings.benchmarks.splits import split_by_consumer
from jobs.reports.datasets import LASTFM, MIN_STARS, MOVIELENS, matrix, read_lastfm

KUAIRAND = Path(__file__).parent.parent / "data" / "kuairand-pure"
HISTORY = "derived/history_4_09_to_4_24.user_sequences.parquet"
LOG = "data/log_standard_4_25_to_5_06_pure.csv.gz"
VIDEOS = "data/video_features_basic_pure.csv.gz"


@dataclass(frozen=True)
class Retrieval:
    """Fit on `train`, rank all producers, and look where those of `test` are: both (n, m).

    again: engagements with known producers count; otherwise those are ranked last.
    """

    name: str
    train: sp.csr_matrix
    test: sp.csr_matrix
    again: bool

    @property
    def rows(self) -> np.ndarray:
        """The consumers with an engagement in the test."""
        return np.flatnonzero(np.diff(self.test.indptr))

    def seen(self) -> sp.csr_matrix:
        """What is ranked last for these consumers, (rows, m)."""
        known = self.train[self.rows]
        return sp.csr_matrix(known.shape) if self.again else known

    def inner(self, seed: int) -> Retrieval:
        """A split of the training part at random, to tune on."""
        split = split_by_consumer(self.train, seed)
        return Retrieval(self.name, split.train + split.validation, split.test, False)


def kuairand(day: int) -> Retrieval:
    """Clicks before a day, and the history; the test is the day's. day: such as 20220504."""
    authors = pd.read_csv(KUAIRAND / VIDEOS).set_index("video_id")["author_id"]
    log = pd.read_csv(KUAIRAND / LOG).drop_duplicates()
    log = log[log["is_click"] == 1]
    history = pd.read_parquet(KUAIRAND / HISTORY)
    parts = [log.loc[log["date"] < day, ["user_id", "video_id"]]]
    for column in ("like_seq", "long_watch_seq"):
        earlier = history[["user_id", column]].explode(column).dropna()
        parts.append(earlier.rename(columns={column: "video_id"}))
    before = pd.concat(parts).astype(np.int64)
    producers = before["video_id"].map(authors)
    later = log[log["date"] == day]
    users = np.unique(before["user_id"])
    known = np.unique(producers)
    chosen = later["user_id"].isin(users) & later["video_id"].map(authors).isin(known)
    later = later[chosen]
    shape = (len(users), len(known))

    def counts(user_ids: pd.Series, author_ids: pd.Series) -> sp.csr_matrix:
        rows = np.searchsorted(users, user_ids)
        columns = np.searchsorted(known, author_ids)
        return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)

    train = counts(before["user_id"], producers)
    test = counts(later["user_id"], later["video_id"].map(authors))
    return Retrieval(f"KuaiRand, {day}", train, test, again=True)


def movielens(data: Path) -> Retrieval:
    """The last fifth of every user's liked films, in time, is the test."""
    table = pd.read_csv(data / MOVIELENS, sep="\t", names=["user", "film", "stars", "time"])
    table = table[table["stars"] >= MIN_STARS].sort_values(["user", "time", "film"])
    place = table.groupby("user").cumcount()
    size = table.groupby("user")["film"].transform("size")
    ones = np.ones(len(table))
    early = (place < np.floor(0.8 * size)).to_numpy()
    whole = matrix(table["user"], table["film"], ones)
    # Of the same rows and columns as the whole.
    train = matrix(table["user"], table["film"], ones * early)
    test = whole - train
    train.eliminate_zeros()
    test.eliminate_zeros()
    return Retrieval("MovieLens-100K", train, test, again=False)


def lastfm(data: Path, seed: int) -> Retrieval:
    """A random fifth of every user's artists is the test."""
    split = split_by_consumer(read_lastfm(data / LASTFM).strengths, seed)
    return Retrieval("Last.fm", split.train + split.validation, split.test, again=False)
