"""Fold-in of ALS: one exact half step of the fit, for rows that the fit did not have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.fold_in.base import relative_residual, require_producers
from embeddings.kernels.arguments import csr_arguments, penalties, positive, read_only
from embeddings.kernels.exact_solve import exact_rows

if TYPE_CHECKING:
    from embeddings.embedders.als import ALSConfig, ALSFactors


@dataclass(frozen=True)
class ALSFoldIn:
    """u = (α0 G + Σ s v vᵀ + λ_i I)⁻¹ Σ s v, solved exactly.

    The producers are stored in the axes where G = VᵀV is diagonal, so that no row needs G itself.
    Rotating the fold-in changes only the way back from these axes.
    Source: Rendle et al. 2022, arXiv:2110.14037.
    """

    vectors: np.ndarray  # (m, k) float32, V Q with G = Q Λ Qᵀ
    eigenvalues: np.ndarray  # (k,) float64, Λ
    axes: np.ndarray  # (k, k) float32, from the axes of G to the version's: u = axes · (u in G's)
    unobserved_weight: float  # α0
    regularization: float  # λ
    frequency_exponent: float  # ν

    @classmethod
    def of(cls, factors: ALSFactors, cfg: ALSConfig) -> ALSFoldIn:
        """The fold-in of a finished fit."""
        eigenvalues, axes = np.linalg.eigh(factors.gram)
        return cls(
            vectors=(factors.producers @ axes).astype(np.float32),
            eigenvalues=np.maximum(eigenvalues, 0.0),  # rounding can make a zero negative
            axes=axes.astype(np.float32),
            unobserved_weight=cfg.unobserved_weight,
            regularization=cfg.regularization,
            frequency_exponent=cfg.frequency_exponent,
        )

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        require_producers(x, len(self.vectors))
        indptr, indices, strengths = csr_arguments(x)
        strengths = positive(strengths)
        dense = (self.unobserved_weight * self.eigenvalues).astype(np.float32)
        row_penalties = penalties(
            np.diff(indptr),
            len(self.vectors),
            self.unobserved_weight,
            self.regularization,
            self.frequency_exponent,
        )
        rows = np.empty((x.shape[0], len(self.axes)), np.float32)
        losses = np.empty(x.shape[0])  # written by the kernel, not used here
        vectors = read_only(self.vectors)
        exact_rows(indptr, indices, strengths, vectors, dense, row_penalties, rows, losses)
        rotated = np.empty_like(rows)
        rotate_rows(rows, read_only(self.axes), rotated)
        return rotated

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> float:
        """The targets are 1, weighted by the strengths, as in the loss of ALS."""
        reached = np.vecdot(producers, vector).astype(np.float64)
        return relative_residual(np.ones(len(reached)), reached, x.data.astype(np.float64))

    def rotated(self, rotation: np.ndarray) -> ALSFoldIn:
        return replace(self, axes=(rotation.T @ self.axes).astype(np.float32))

    def in_order(self, order: np.ndarray) -> ALSFoldIn:
        return replace(self, vectors=self.vectors[order])

    @property
    def n_producers(self) -> int:
        return len(self.vectors)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors, "eigenvalues": self.eigenvalues, "axes": self.axes}

    def scalars(self) -> dict[str, str | float]:
        return {
            "kind": "als",
            "unobserved_weight": self.unobserved_weight,
            "regularization": self.regularization,
            "frequency_exponent": self.frequency_exponent,
        }


FOLD_IN = ALSFoldIn


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def rotate_rows(rows, axes, out):
    """out[i] = axes rows[i].

    Not done with BLAS: it wakes its threads for a wide row, which slows a single request down.
    """
    n, k = rows.shape
    for i in range(n):
        for f in range(k):
            product = np.float32(0.0)
            for g in range(k):
                product += axes[f, g] * rows[i, g]
            out[i, f] = product
