"""Hard negatives: of the producers that a consumer has not engaged with, those ranked highest.

The towers rank them as they are. A pair's producer is compared with them beside what the batch has
drawn; they are its own consumer's alone. A negative's product is lessened by the logarithm of the
probability that the consumer is compared with it ("log-Q"): of a hard one, that is the share of all
producers that are searched.
With them, the sum in the denominator has its largest terms, and comes nearer to that over all.
Sources: Huang et al. 2020, arXiv:2006.11632 (hard negatives among random ones); Xiong et al. 2021,
arXiv:2007.00808 (negatives by the model as it learns).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embeddings.towers.batches import Batch, engaged

if TYPE_CHECKING:
    from torch import Tensor

MOST_SEARCHED = 20_000  # producers that are searched; of more, these are drawn evenly
REFRESH = 20  # batches that are searched with the same vectors of producers


class HardNegatives:
    """Finds them by the vectors of producers as they were a few batches ago."""

    def __init__(
        self, count: int, n_producers: int, vectors: Callable[[np.ndarray], Tensor], seed: int
    ) -> None:
        """count: for each pair. vectors: of some producers, (p, k), without gradients."""
        self.count = count
        self.n_producers = n_producers
        self.vectors = vectors
        self.rng = np.random.default_rng([seed, 2])  # the towers start with 0 and 1
        self.batches = 0

    def added_to(self, batch: Batch, consumers: Tensor) -> Batch:
        """The batch, in which each consumer is compared with its hard negatives as well.

        consumers: (B, k), their vectors.
        """
        if self.batches % REFRESH == 0:
            self._refresh()
        self.batches += 1
        places, found = self._hardest(batch, consumers)
        log_q = np.log(len(self.searched) / self.n_producers)
        return with_hard(batch, self.searched[places], found, np.float32(-log_q))

    def _refresh(self) -> None:
        n = min(self.n_producers, MOST_SEARCHED)
        self.searched = np.sort(self.rng.choice(self.n_producers, n, replace=False, shuffle=False))
        self.searched_vectors = self.vectors(self.searched)

    def _hardest(self, batch: Batch, consumers: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Places among the searched producers, (B, N), and which of them are negatives."""
        import torch

        scores = consumers @ self.searched_vectors.T
        scores[torch.from_numpy(engaged(batch.histories, self.searched))] = -torch.inf
        highest = torch.topk(scores, min(self.count, len(self.searched)), dim=1)
        return highest.indices.numpy(), torch.isfinite(highest.values).numpy()


def with_hard(batch: Batch, hard: np.ndarray, found: np.ndarray, shift: np.float32) -> Batch:
    """The batch with further producers, which only some of its consumers are compared with.

    hard: (B, N) producers. found: (B, N) bool, which of them count. shift: what is added to their
    products; a producer that the batch has drawn as well counts once, by this one.
    """
    producers = np.union1d(batch.producers, hard[found])
    drawn = np.searchsorted(producers, batch.producers)
    shifts = np.full((len(batch.rows), len(producers)), -np.inf, np.float32)
    shifts[:, drawn] = batch.shifts
    rows = np.nonzero(found)[0]
    shifts[rows, np.searchsorted(producers, hard[found])] = shift
    known = np.ones(len(producers), bool)
    known[drawn] = batch.known
    targets = drawn[batch.targets]
    return replace(batch, producers=producers, targets=targets, shifts=shifts, known=known)
