"""Fold-in of the SVD: one sparse row times one dense matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.fold_in.base import relative_residual
from embeddings.kernels.arguments import csr_arguments, read_only


@dataclass(frozen=True)
class SVDFoldIn:
    """u = x̂ F with F = V Σ^(-1/2): where the SVD would have put the row, U√Σ = X̂ V Σ^(-1/2).

    Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings", fold-in.
    """

    matrix: np.ndarray  # (m, k) float32, V Σ^(-1/2)
    column_sums: np.ndarray  # (m,) float64, by which the fitted matrix was normalised
    row_extra: float = 0.0  # added to every row sum before normalising

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        if not x.shape[1] == len(self.column_sums) == len(self.matrix):
            raise ValueError(
                f"Strengths of {x.shape[1]} producers, column sums of {len(self.column_sums)}, "
                f"a fold-in matrix of {len(self.matrix)}: all three must come from one version."
            )
        indptr, indices, strengths = csr_arguments(x)
        matrix = read_only(self.matrix)
        column_sums = read_only(self.column_sums)
        rows = np.empty((x.shape[0], self.matrix.shape[1]), np.float32)
        svd_rows(indptr, indices, strengths, matrix, column_sums, self.row_extra, rows)
        return rows

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> float:
        """The targets are the normalised strengths x̂, which the SVD approximates by u·v."""
        sums = self.column_sums[x.indices]
        seen = sums > 0
        total = self.row_extra + x.data.sum()
        target = x.data[seen] / np.sqrt(total * sums[seen])
        reached = np.vecdot(producers[seen], vector).astype(np.float64)
        return relative_residual(target, reached, np.ones(len(target)))

    def rotated(self, rotation: np.ndarray) -> SVDFoldIn:
        return replace(self, matrix=(self.matrix @ rotation).astype(np.float32))

    def in_order(self, order: np.ndarray) -> SVDFoldIn:
        return replace(self, matrix=self.matrix[order], column_sums=self.column_sums[order])

    @property
    def n_producers(self) -> int:
        return len(self.matrix)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"matrix": self.matrix, "column_sums": self.column_sums}

    def scalars(self) -> dict[str, str | float]:
        return {"kind": "svd", "row_extra": self.row_extra}


FOLD_IN = SVDFoldIn


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def svd_rows(indptr, indices, strengths, matrix, column_sums, row_extra, rows):
    """rows[i] = Σ_j s_ij / (√(row sum + row_extra) · √column_sums[j]) · matrix[j].

    Columns whose sum is zero are skipped: the fit saw no engagement with that producer.
    """
    n, k = rows.shape
    for i in range(n):
        rows[i] = 0.0
        total = row_extra
        for at in range(indptr[i], indptr[i + 1]):
            total += strengths[at]
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            if column_sums[j] > 0.0:
                weight = np.float32(strengths[at] / np.sqrt(total * column_sums[j]))
                for f in range(k):
                    rows[i, f] += weight * matrix[j, f]
