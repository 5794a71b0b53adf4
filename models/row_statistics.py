"""Statistics of the rows that a ranker is trained on, computed block by block."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.admission import BucketCounts
from models.features import Examples, FeatureSpec
from models.rankers.base import Statistics

BLOCK = 65_536  # rows whose statistics are computed together; another number rounds differently
CONSTANT = 1e-6  # a column with a smaller standard deviation carries no information


def statistics_of(
    days: Sequence[Examples],
    spec: FeatureSpec | None = None,
    buckets: BucketCounts | None = None,
) -> Statistics:
    """Scales of the numeric columns and log odds of the labels, over all rows of the days.

    NaN is left out. One positive and one negative are added to every label, so that a label that
    never occurs has finite odds. spec: to check every row against; raises InvalidExamples. buckets:
    to add the categories of every row to.
    """
    plain, logs = Moments(), Moments()
    rows = 0
    positives = 0
    # The logarithms take as long as the rest.
    with ThreadPoolExecutor(1) as beside:
        for day in days:
            for piece in day.pieces(BLOCK):
                of_logs = beside.submit(add_logs, logs, piece.numbers)
                if spec is not None:
                    piece.check(spec)
                rows += len(piece)
                if buckets is not None:
                    buckets.add(piece.categories)
                positives = positives + piece.labels.sum(axis=0, dtype=np.float64)
                plain.add(piece.numbers)
                of_logs.result()
    std = plain.std
    return Statistics(
        mean_N=plain.mean,
        std_N=np.where(std > CONSTANT, std, np.inf),
        log_mean_N=logs.mean,
        log_std_N=logs.std,
        log_odds_L=np.log((positives + 1) / (rows - positives + 1)),
    )


class Moments:
    """Mean and standard deviation of columns, without NaN, over blocks of rows: (N,) float64.

    Of every block, the squares of the distances from its own mean are summed; blocks are joined as
    in Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm", Eq. 1.4. A
    difference of two large sums would lose the small variances. The same blocks in the same order
    give the same bits. A column without any value has the mean 0 and the deviation 0.
    """

    def __init__(self) -> None:
        self.counts: np.ndarray | int = 0
        self.totals: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0  # Σ (x - mean)²

    def add(self, block: np.ndarray) -> None:
        """block: (n, N)."""
        known = ~np.isnan(block)
        counts = known.sum(axis=0)
        totals = np.sum(block, axis=0, dtype=np.float64, where=known)
        mean = totals / np.maximum(counts, 1)
        distances = np.subtract(block, mean, dtype=np.float64)
        squares = np.sum(np.square(distances, out=distances), axis=0, where=known)
        both = self.counts + counts
        weights = self.counts * (counts / np.maximum(both, 1))
        self.squares = self.squares + squares + weights * (mean - self.mean) ** 2
        self.counts = both
        self.totals = self.totals + totals

    @property
    def mean(self) -> np.ndarray:
        return self.totals / np.maximum(self.counts, 1)

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.squares / np.maximum(self.counts, 1))


def add_logs(logs: Moments, block: np.ndarray) -> None:
    """Add the signed logarithms of a block: (n, N)."""
    logs.add(signed_log(block))


def signed_log(x: np.ndarray) -> np.ndarray:
    """sign(x)·log(1 + |x|), element by element."""
    return np.sign(x) * np.log1p(np.abs(x))
