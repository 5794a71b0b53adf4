"""Batches of pairs of a consumer and a producer, and the other producers that a pair must beat.

A pair is drawn in proportion to its strength. Its producer is left out of the consumer's bag: with
it, the towers would learn that a consumer engages with what is in its bag. Some bags lose further
producers at random, some all of them, so that the features alone are learned as well.

The pair must score above the other producers of the batch and some that are drawn evenly. Those
that its consumer engaged with do not count. A popular producer is in more batches than others: the
logarithm of the probability to be in one is subtracted from its products ("log-Q").
Sources: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations"; Yang et al. 2020, "Mixed Negative Sampling" (those drawn evenly); Volkovs et al.
2017, "DropoutNet" (hidden bags).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

LEAST_BATCHES = 100  # of an epoch: a small log has smaller batches
SMALLEST_BATCH = 16


@dataclass(frozen=True)
class Draw:
    """How pairs and producers are drawn: see the options of the embedder."""

    batch: int
    negatives: int
    dropout: float
    newcomers: float


@dataclass(frozen=True)
class Batch:
    """B pairs and C producers, among which the producer of each pair is to be found."""

    rows: np.ndarray  # (B,) the consumers
    histories: sp.csr_matrix  # (B, m), all that they engaged with
    bags: sp.csr_matrix  # (B, m) float32, what their towers read
    producers: np.ndarray  # (C,) sorted
    targets: np.ndarray  # (B,) the place of each pair's producer among them
    shifts: np.ndarray  # (B, C) float32, added to the products: −log q, or −∞ where none counts
    known: np.ndarray  # (C,) bool: producers whose tower reads their id


class Pairs:
    """All pairs of a matrix."""

    def __init__(self, x: sp.csr_matrix, draw: Draw) -> None:
        """x: (n, m) strengths > 0, with at least one pair."""
        self.x = x
        self.draw = draw
        self.consumers = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        self.cumulated = np.cumsum(x.data, dtype=np.float64)
        fewer = max(SMALLEST_BATCH, x.nnz // LEAST_BATCHES)
        self.size = min(draw.batch, fewer)
        self.batches = -(-x.nnz // self.size)  # of an epoch
        self.negatives = min(draw.negatives, x.shape[1])
        self.log_q = self._log_q()

    def _log_q(self) -> np.ndarray:
        """The log probability of each producer to be in a batch, (m,) float32.

        By one of the pairs or by one of the even draws: 1 − (1 − q)^B (1 − N/m).
        """
        m = self.x.shape[1]
        shares = np.bincount(self.x.indices, self.x.data, minlength=m) / self.cumulated[-1]
        absent = (1 - shares) ** self.size * (1 - self.negatives / m)
        return np.log(np.maximum(1 - absent, np.finfo(np.float64).tiny)).astype(np.float32)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """As many pairs as there are, and fewer than one batch more."""
        for _ in range(self.batches):
            drawn = rng.random(self.size) * self.cumulated[-1]
            last = len(self.cumulated) - 1  # rounding may lead beyond it
            pairs = np.minimum(np.searchsorted(self.cumulated, drawn, side="right"), last)
            yield self.batch(pairs, rng)

    def batch(self, pairs: np.ndarray, rng: np.random.Generator) -> Batch:
        """The batch of these pairs. pairs: (B,), their numbers in the matrix."""
        rows, chosen = self.consumers[pairs], self.x.indices[pairs]
        even = rng.choice(self.x.shape[1], self.negatives, replace=False, shuffle=False)
        producers = np.unique(np.concatenate([chosen, even]))
        targets = np.searchsorted(producers, chosen)
        histories = self.x[rows]
        taken = masked(histories, producers, targets)
        known = rng.random(len(producers)) >= self.draw.newcomers
        return Batch(
            rows=rows,
            histories=histories,
            bags=self._bags(histories, chosen, rng),
            producers=producers,
            targets=targets,
            shifts=np.where(taken, np.float32(-np.inf), -self.log_q[producers]),
            known=known,
        )

    def _bags(
        self, histories: sp.csr_matrix, chosen: np.ndarray, rng: np.random.Generator
    ) -> sp.csr_matrix:
        """The histories without the producer of the pair, and without what is hidden at random."""
        lengths = np.diff(histories.indptr)
        hidden = histories.indices == np.repeat(chosen, lengths)
        hidden |= rng.random(histories.nnz) < self.draw.dropout
        hidden |= np.repeat(rng.random(len(chosen)) < self.draw.newcomers, lengths)
        weights = np.where(hidden, 0, histories.data).astype(np.float32)
        return sp.csr_matrix((weights, histories.indices, histories.indptr), histories.shape)


def masked(histories: sp.csr_matrix, producers: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which producers a consumer engaged with besides that of its pair, (B, C) bool.

    histories: (B, m). producers: (C,) sorted. targets: (B,), the place of the pair's producer.
    """
    others = engaged(histories, producers)
    others[np.arange(len(targets)), targets] = False
    return others


def engaged(histories: sp.csr_matrix, producers: np.ndarray) -> np.ndarray:
    """Which of these producers each consumer engaged with, (B, C) bool.

    histories: (B, m). producers: (C,).
    """
    place = np.full(histories.shape[1], -1)
    place[producers] = np.arange(len(producers))
    found = place[histories.indices]
    row = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    marks = np.zeros((histories.shape[0], len(producers)), bool)
    marks[row[found >= 0], found[found >= 0]] = True
    return marks
