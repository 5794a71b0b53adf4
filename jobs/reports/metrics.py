"""Splits, rankings and intervals: pure functions that the experiments share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit

TOP = 20  # NDCG@20
RESAMPLES = 1000
LEVEL = 95  # % of an interval
FEWEST = 30  # consumers in a group that is told


@dataclass(frozen=True)
class Split:
    """One matrix in three, of the same shape: what is known, what tunes, what judges."""

    train: sp.csr_matrix
    validation: sp.csr_matrix
    test: sp.csr_matrix

    @property
    def judged(self) -> np.ndarray:
        """Rows of the consumers that have something held out."""
        return np.flatnonzero(np.diff(self.test.indptr))


def split(
    x: sp.csr_matrix, seed: int, test: float = 0.2, validation: float = 0.1, least: int = 5
) -> Split:
    """Hold out a share of every consumer's pairs, drawn at random, at least one of each kind.

    x: (n, m). A consumer with fewer than `least` pairs keeps them all and is not judged.
    """
    lengths = np.diff(x.indptr)
    row = np.repeat(np.arange(x.shape[0]), lengths)
    order = np.lexsort((np.random.default_rng(seed).random(x.nnz), row))
    place = np.empty(x.nnz, np.int64)  # of a pair in its consumer's own shuffled order
    place[order] = np.arange(x.nnz) - np.repeat(x.indptr[:-1], lengths)

    def held_out(share: float) -> np.ndarray:
        return np.where(lengths >= least, np.maximum(1, np.round(share * lengths)), 0)

    tests, validations = held_out(test), held_out(validation)
    is_test = place < tests[row]
    is_validation = ~is_test & (place < (tests + validations)[row])
    return Split(
        *(part(x, row, keep) for keep in (~is_test & ~is_validation, is_validation, is_test))
    )


def part(x: sp.csr_matrix, row: np.ndarray, keep: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix((x.data[keep], (row[keep], x.indices[keep])), shape=x.shape)


def most_active(x: sp.csr_matrix, percent: float) -> np.ndarray:
    """(n,) bool: the `percent` % of the consumers with most pairs, at least one; of equals those in earlier rows."""
    chosen = np.zeros(x.shape[0], dtype=bool)
    most = max(1, round(percent / 100 * x.shape[0]))
    chosen[np.argsort(-np.diff(x.indptr), kind="stable")[:most]] = True
    return chosen


def ndcg(
    consumers: np.ndarray,
    targets: np.ndarray,
    popularity: np.ndarray,
    seen: sp.csr_matrix,
    relevant: sp.csr_matrix,
    top: int = TOP,
) -> np.ndarray:
    """NDCG@top of every consumer, (n,): Σ_(hits) 1/log2(1 + rank), over the most that as many relevant ones can give.

    consumers: (n, k), targets: (m, k); the rank is by their product. A consumer whose vector is zero gets the most
    popular: popularity (m,). seen, relevant: (n, m), non-zero where it is so; what was seen is not ranked. Every
    consumer needs something relevant.
    """
    discounts = np.concatenate(
        [1 / np.log2(np.arange(2, top + 2)), [0.0]]
    )  # of ranks 0, 1, … and of all beyond
    ideal = np.cumsum(discounts)
    found = np.empty(len(consumers))
    for start in range(0, len(consumers), 512):
        rows = slice(start, start + 512)
        scores = consumers[rows].astype(np.float32) @ targets.T.astype(np.float32)
        scores[~consumers[rows].any(axis=1)] = popularity
        known, wanted = seen[rows], relevant[rows]
        scores[np.repeat(np.arange(len(scores)), np.diff(known.indptr)), known.indices] = -np.inf
        counts = np.diff(wanted.indptr)
        row = np.repeat(np.arange(len(scores)), counts)
        gained = discounts[np.minimum(ranks(scores, row, wanted.indices), top)]
        found[rows] = (
            np.bincount(row, gained, minlength=len(scores)) / ideal[np.minimum(counts, top) - 1]
        )
    return found


@njit(cache=True)
def ranks(scores, rows, columns):
    """How many columns of its row are before each of these entries: higher, or as high and further left. (pairs,)"""
    found = np.zeros(len(rows), np.int64)
    for pair in range(len(rows)):
        line, column = scores[rows[pair]], columns[pair]
        own = line[column]
        before = 0
        for other in range(len(line)):
            before += (line[other] > own) | ((line[other] == own) & (other < column))
        found[pair] = before
    return found


# Intervals


@dataclass(frozen=True)
class Estimate:
    """A figure and its bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def fields(self, name: str) -> dict[str, float]:
        """As columns of a table."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def estimate(value: float, resamples: np.ndarray) -> Estimate:
    """With the middle LEVEL % of the resamples as its interval; NaN where there are none."""
    known = resamples[np.isfinite(resamples)]
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of consumers drawn with replacement. values: (n,) or (n, columns). Returns (RESAMPLES,) or (…, columns)."""
    n = len(values)
    rng = np.random.default_rng(seed)
    draws = (
        rng.multinomial(n, np.full(n, 1 / n), size=50) for _ in range(RESAMPLES // 50)
    )  # fifty: memory is 50 · n
    return np.concatenate([drawn @ values / n for drawn in draws])


def mean_estimate(values: np.ndarray, seed: int) -> Estimate:
    """The mean over consumers. values: (n,)."""
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    return estimate(values.mean(), resampled_means(values, seed))


def gain_share(none: np.ndarray, fitted: np.ndarray, folded: np.ndarray, seed: int) -> Estimate:
    """(mean folded − mean none) / (mean fitted − mean none): what folded-in vectors keep of the fitted ones' gain.

    All (n,), of the same consumers. Resampled by consumer, the three together.
    """
    if not len(none):
        return Estimate(np.nan, np.nan, np.nan)
    gains = np.column_stack([folded - none, fitted - none])
    drawn = resampled_means(gains, seed)
    kept, whole = gains.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(kept / whole, drawn[:, 0] / drawn[:, 1])
