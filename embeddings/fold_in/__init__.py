"""Vectors for consumers that the model was not fitted on: one formula for the nightly batch and a single request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.embedders.als import ALSConfig, ALSFactors, penalties, positive
from embeddings.kernels.exact_solve import exact_rows


class FoldIn(Protocol):
    """What a version keeps to make vectors of new histories, in the coordinates of its own vectors."""

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        """x: (n, m) raw strengths > 0. Returns (n, k) float32; zeros for a row without any.

        Raises ValueError when x has another number of producers or, for ALS, a strength that is not above 0.
        """
        ...

    def rotated(self, rotation: np.ndarray) -> FoldIn:
        """The same in other coordinates: what `fold` gives is turned by the orthogonal rotation (k, k)."""
        ...

    def in_order(self, order: np.ndarray) -> FoldIn:
        """The same with producer order[j] in column j. order: (m,), a permutation."""
        ...

    @property
    def n_producers(self) -> int: ...

    def arrays(self) -> dict[str, np.ndarray]:
        """What to store, by name; `restore` takes it back."""
        ...

    def scalars(self) -> dict[str, str | float]:
        """The rest of it, for JSON."""
        ...


@dataclass(frozen=True)
class SVDFoldIn:
    """u = x̂ F with F = V Σ^(-1/2): where the SVD would have put these consumers, U√Σ = X̂ V Σ^(-1/2).

    Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings", fold-in.
    """

    matrix: np.ndarray  # (m, k) float32, V Σ^(-1/2)
    column_sums: np.ndarray  # (m,) float64, of the fitted matrix, as they were divided by
    row_extra: float = 0.0  # what was added to every row sum

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        if not x.shape[1] == len(self.column_sums) == len(self.matrix):
            raise ValueError(
                f"Strengths of {x.shape[1]} producers, column sums of {len(self.column_sums)}, "
                f"a fold-in matrix of {len(self.matrix)}: all three must come from one version."
            )
        rows = np.empty((x.shape[0], self.matrix.shape[1]), np.float32)
        svd_rows(
            *kernel_rows(x),
            read_only(self.matrix),
            read_only(self.column_sums),
            self.row_extra,
            rows,
        )
        return rows

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


@dataclass(frozen=True)
class ALSFoldIn:
    """u = (α0 G + Σ s v vᵀ + λ_i I)⁻¹ Σ s v, exactly: the half step of the fit, for rows that it did not have.

    The producers are kept in the axes where G = VᵀV is diagonal, so that no row needs G itself. A rotation changes only
    the way back out of these axes. Source: Rendle et al. 2022, arXiv:2110.14037.
    """

    vectors: np.ndarray  # (m, k) float32, V Q with G = Q Λ Qᵀ
    eigenvalues: np.ndarray  # (k,) float64, Λ
    axes: (
        np.ndarray
    )  # (k, k) float32, Q, turned into the version's coordinates: u = axes · (u in the axes of G)
    unobserved_weight: float  # α0
    regularization: float  # λ
    frequency_exponent: float  # ν

    @classmethod
    def of(cls, factors: ALSFactors, cfg: ALSConfig) -> ALSFoldIn:
        """From what a fit leaves behind."""
        eigenvalues, axes = np.linalg.eigh(factors.gram)
        vectors = (factors.producers @ axes).astype(np.float32)
        weights = (cfg.unobserved_weight, cfg.regularization, cfg.frequency_exponent)
        return cls(vectors, np.maximum(eigenvalues, 0.0), axes.astype(np.float32), *weights)

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        if x.shape[1] != len(self.vectors):
            raise ValueError(
                f"Strengths of {x.shape[1]} producers, a fold-in of {len(self.vectors)}: "
                "both must come from one version."
            )
        indptr, indices, strengths = kernel_rows(x)
        rows, losses = np.empty((x.shape[0], len(self.axes)), np.float32), np.empty(x.shape[0])
        dense = (self.unobserved_weight * self.eigenvalues).astype(np.float32)
        weights = (self.unobserved_weight, self.regularization, self.frequency_exponent)
        own = penalties(np.diff(indptr), len(self.vectors), *weights)
        exact_rows(
            indptr, indices, positive(strengths), read_only(self.vectors), dense, own, rows, losses
        )
        vectors = np.empty_like(rows)
        turn_rows(rows, read_only(self.axes), vectors)
        return vectors

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


KINDS = {"svd": SVDFoldIn, "als": ALSFoldIn}


def restore(arrays: Mapping[str, np.ndarray], scalars: Mapping[str, str | float]) -> FoldIn:
    """The fold-in that gave these arrays and scalars. The arrays may be mapped from files. Raises ValueError."""
    fields = dict(scalars)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"There is no fold-in of kind {kind!r}; there are {sorted(KINDS)}.")
    return KINDS[kind](**arrays, **fields)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def svd_rows(indptr, indices, strengths, matrix, column_sums, row_extra, rows):
    """rows[i] = Σ_j s_ij / (√(row sum + row_extra) · √column sum) · matrix[j]; columns without a sum count nothing."""
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


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def turn_rows(rows, axes, out):
    """out[i] = axes rows[i]. Not by BLAS: the threads that it wakes for a wide row would make one request slow."""
    n, k = rows.shape
    for i in range(n):
        for f in range(k):
            product = np.float32(0.0)
            for g in range(k):
                product += axes[f, g] * rows[i, g]
            out[i, f] = product


def kernel_rows(x: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr, indices and strengths in the one set of types that the kernels are compiled for."""
    return x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data.astype(np.float32)


def read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view: to a kernel, an array in memory is then of the same type as one mapped from a file."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
