"""Fold-in by a weighted mean: a history's vector is the mean of its producers' input vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.kernels.arguments import csr_arguments, read_only


@dataclass(frozen=True)
class MeanFoldIn:
    """u = Σ_j s_j c_j e_j / Σ_j s_j c_j: where the training on baskets would put the history.

    The vectors are a second table beside the published producers, which u is multiplied with.
    """

    vectors: np.ndarray  # (m, k) float32, e
    weights: (
        np.ndarray
    )  # (m,) float32 >= 0, c: 1, or less for a producer that was passed less often

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        if not x.shape[1] == len(self.vectors) == len(self.weights):
            raise ValueError(
                f"Strengths of {x.shape[1]} producers, a fold-in of {len(self.vectors)} vectors "
                f"and {len(self.weights)} weights: all three must come from one version."
            )
        rows = np.empty((x.shape[0], self.vectors.shape[1]), np.float32)
        mean_rows(*csr_arguments(x), read_only(self.vectors), read_only(self.weights), rows)
        return rows

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> None:
        """None: a mean has no targets."""
        return

    def rotated(self, rotation: np.ndarray) -> MeanFoldIn:
        return replace(self, vectors=(self.vectors @ rotation).astype(np.float32))

    def in_order(self, order: np.ndarray) -> MeanFoldIn:
        return replace(self, vectors=self.vectors[order], weights=self.weights[order])

    @property
    def n_producers(self) -> int:
        return len(self.vectors)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors, "weights": self.weights}

    def scalars(self) -> dict[str, str | float]:
        return {"kind": "mean"}


FOLD_IN = MeanFoldIn


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def mean_rows(indptr, indices, strengths, vectors, weights, rows):
    """rows[i] = Σ_j s_ij c_j vectors[j] / Σ_j s_ij c_j, zeros where the weights sum to zero."""
    n, k = rows.shape
    for i in range(n):
        rows[i] = 0.0
        total = 0.0
        for at in range(indptr[i], indptr[i + 1]):
            total += strengths[at] * weights[indices[at]]
        if total <= 0.0:
            continue
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            weight = np.float32(strengths[at] * weights[j] / total)
            for f in range(k):
                rows[i, f] += weight * vectors[j, f]
