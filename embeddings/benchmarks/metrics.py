"""Ranking metrics of user and item vectors on held-out engagements.

Rank once, then read any metric at any cut-off from the ranking:

    ranking = rank(consumers, producers, seen=train, relevant=test)
    ranking.ndcg(20).mean(), ranking.recall(100).mean()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numba import njit

CHUNK = 512  # consumers scored at a time; bounds the (CHUNK, m) scores in memory


@dataclass(frozen=True)
class Ranking:
    """The ranks of every consumer's relevant producers.

    ranks: (pairs,), from 0, grouped by consumer. counts: (n,), relevant producers of each consumer.
    missing: (n,), relevant producers besides those, which could not be ranked; None for none.
    """

    ranks: np.ndarray
    counts: np.ndarray
    missing: np.ndarray | None = None

    def with_missing(self, missing: np.ndarray) -> Ranking:
        """The ranking of consumers who have that many more relevant producers each, (n,)."""
        return replace(self, missing=missing)

    @property
    def relevant(self) -> np.ndarray:
        """The relevant producers of each consumer, ranked or not, (n,)."""
        return self.counts if self.missing is None else self.counts + self.missing

    def ndcg(self, top: int) -> np.ndarray:
        """NDCG@top of every consumer, (n,); NaN for a consumer without relevant producers.

        Σ_hits 1 / log2(2 + rank), divided by the largest sum that `counts` producers can reach.
        Source: Järvelin & Kekäläinen 2002, "Cumulated Gain-Based Evaluation of IR Techniques".
        """
        discounts = 1 / np.log2(np.arange(2, top + 2))
        gains = np.append(discounts, 0.0)  # the last gain is that of every rank beyond the cut-off
        gained = self._sums(gains[np.minimum(self.ranks, top)])
        best_sums = np.cumsum(discounts)
        best = best_sums[np.clip(self.relevant, 1, top) - 1]
        return gained / np.where(self.relevant, best, np.nan)

    def recall(self, top: int) -> np.ndarray:
        """Recall@top of every consumer, (n,); NaN for a consumer without relevant producers.

        The share of the relevant producers that are among the first `top`. The denominator is
        min(count, top), so that a consumer with more than `top` relevant producers can reach 1 too.
        """
        reachable = np.minimum(self.relevant, top)
        return self._sums(self.ranks < top) / np.where(self.relevant, reachable, np.nan)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """Sums by consumer. values: (pairs,). Returns (n,)."""
        consumer = np.repeat(np.arange(len(self.counts)), self.counts)
        return np.bincount(consumer, values, minlength=len(self.counts))


def rank(
    consumers: np.ndarray,
    producers: np.ndarray,
    seen: sp.csr_matrix,
    relevant: sp.csr_matrix,
    popularity: np.ndarray | None = None,
) -> Ranking:
    """Rank all producers for every consumer by the product of their vectors.

    consumers: (n, k), producers: (m, k). seen, relevant: (n, m), the stored entries count.
    Seen producers are ranked last. Of equal scores the producer with the smaller row comes first.
    popularity: (m,), the scores for consumers whose vector is zero; without it they score every
    producer 0.
    """
    transposed = producers.T.astype(np.float32)

    def scores(rows: slice) -> np.ndarray:
        products = scores_of(consumers[rows], transposed, popularity)
        known = seen[rows]
        products[_row_numbers(known), known.indices] = -np.inf
        return products

    return rank_scores(scores, relevant)


def scores_of(
    consumers: np.ndarray, transposed: np.ndarray, popularity: np.ndarray | None = None
) -> np.ndarray:
    """Products of vectors, (n, m) float32, and for a consumer whose vector is zero the popularity.

    consumers: (n, k); transposed: (k, m) float32, of the producers; popularity: (m,).
    """
    products = consumers.astype(np.float32) @ transposed
    if popularity is not None:
        products[~consumers.any(axis=1)] = popularity
    return products


def rank_scores(scores: Callable[[slice], np.ndarray], relevant: sp.csr_matrix) -> Ranking:
    """Rank all producers for every consumer by scores, (rows, m) for a slice of consumers.

    relevant: (n, m), the stored entries count. Ties as in `rank`.
    """
    chunks = [np.zeros(0, np.int64)]  # not empty, so that no consumers can be concatenated too
    for start in range(0, relevant.shape[0], CHUNK):
        rows = slice(start, start + CHUNK)
        wanted = relevant[rows]
        chunks.append(_ranks(scores(rows), _row_numbers(wanted), wanted.indices))
    return Ranking(np.concatenate(chunks), np.diff(relevant.indptr))


def _row_numbers(x: sp.csr_matrix) -> np.ndarray:
    """The row of every stored entry, (nnz,)."""
    return np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))


@njit(cache=True)
def _ranks(scores, rows, columns):
    """The rank of each entry in its row, (pairs,): the number of entries that precede it.

    scores: (consumers, m). rows, columns: (pairs,). An entry precedes another if it is higher, or
    equal and further left. Counting is O(m) per pair, which is faster than sorting the row as long
    as a consumer has few relevant producers.
    """
    ranks = np.zeros(len(rows), np.int64)
    for pair in range(len(rows)):
        row = scores[rows[pair]]
        column = columns[pair]
        own = row[column]
        before = 0
        for other in range(len(row)):
            before += (row[other] > own) | ((row[other] == own) & (other < column))
        ranks[pair] = before
    return ranks
