"""Fold-in of pairs: the vector that makes a history likely and drawn producers unlikely."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from embeddings.fold_in.base import require_producers
from embeddings.kernels.arguments import csr_arguments, positive, read_only
from embeddings.kernels.logistic import logistic_rows


@dataclass(frozen=True)
class LogisticFoldIn:
    """u = argmax Σ_j s_j (log σ(u·v_j) + K Σ_n q_n log σ(−u·v_n)) − λ/2 ‖u‖², exactly.

    It is what the training on pairs of a consumer and a producer maximises for one consumer, with
    the expectation instead of draws. Of many producers, the expectation is over a sample that
    stays the same.
    """

    vectors: np.ndarray  # (m, k) float32, v
    noise: np.ndarray  # (q, k) float32, the vectors of the producers that stand for what is drawn
    shares: np.ndarray  # (q,) float32, q_n: how often each is drawn; their sum is 1
    negatives: float  # K
    regularization: float  # λ

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        require_producers(x, len(self.vectors))
        indptr, indices, strengths = csr_arguments(x)
        strengths = positive(strengths)
        noise = (read_only(self.noise), read_only(self.shares))
        rows = np.empty((x.shape[0], self.vectors.shape[1]), np.float32)
        vectors = read_only(self.vectors)
        weights = (float(self.negatives), float(self.regularization))
        logistic_rows(indptr, indices, strengths, vectors, *noise, *weights, rows)
        return rows

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> None:
        """None: probabilities have no target that a vector of zeros misses by its length."""
        return

    def rotated(self, rotation: np.ndarray) -> LogisticFoldIn:
        vectors = (self.vectors @ rotation).astype(np.float32)
        noise = (self.noise @ rotation).astype(np.float32)
        return replace(self, vectors=vectors, noise=noise)

    def in_order(self, order: np.ndarray) -> LogisticFoldIn:
        return replace(self, vectors=self.vectors[order])

    @property
    def n_producers(self) -> int:
        return len(self.vectors)

    @property
    def lengths(self) -> set[int]:
        """Lengths of arrays besides those that every kind may have, see `FoldIn`."""
        return {len(self.noise)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors, "noise": self.noise, "shares": self.shares}

    def scalars(self) -> dict[str, str | float]:
        return {
            "kind": "logistic",
            "negatives": self.negatives,
            "regularization": self.regularization,
        }


FOLD_IN = LogisticFoldIn
