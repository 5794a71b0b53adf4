"""Degree normalisation of the consumer-producer matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numba import njit


def inv_sqrt(degree: np.ndarray) -> np.ndarray:
    """1/√d, and 0 where d is 0. degree: (n,), >= 0. Returns (n,) float64."""
    return np.divide(1.0, np.sqrt(degree), out=np.zeros(len(degree)), where=degree > 0)


def smoothed(column_sums: np.ndarray, n_rows: int, smoothing: float) -> tuple[np.ndarray, float]:
    """Smoothed column sums (m,), and the amount to add to every row sum.

    Non-zero column sums are raised by `smoothing` times their mean. n_rows: non-empty rows of the
    matrix. Without smoothing the strongest directions of a normalised matrix are small islands,
    σ = 1: a few consumers with a few producers that no one else has. Source: Qin & Rohe 2013,
    "Regularized Spectral Clustering under the Degree-Corrected Stochastic Blockmodel",
    arXiv:1309.4111, where smoothing = 1.
    """
    total = column_sums.sum()
    per_column = total / max(np.count_nonzero(column_sums), 1)
    per_row = total / max(n_rows, 1)
    raised = np.where(column_sums > 0, column_sums + smoothing * per_column, 0.0)
    return raised, float(smoothing * per_row)


def normalize(
    x: sp.csr_matrix,
    column_sums: np.ndarray | None = None,
    row_extra: float = 0.0,
    dtype: type = np.float64,
) -> sp.csr_matrix:
    """Damp heavy consumers and popular producers.

    x̂_ij = x_ij / (√(row sum + row_extra) · √column sum)

    x: (n_consumers, n_producers) strengths, >= 0. column_sums: (n_producers,), of the fitted
    matrix where x holds other consumers or only some; default: the sums of x. Pass the results of
    `smoothed` to smooth. Returns the same shape and sparsity, sharing the pattern's arrays with
    x; an empty row or column stays zero. Source: Shiebler et al. 2018, "Fighting Redundancy and
    Model Decay with Embeddings", section on follow-graph SVD.
    """
    if column_sums is None:
        column_sums = np.bincount(x.indices, x.data, minlength=x.shape[1])
    values = np.empty(x.nnz, dtype)
    write_normalized(x.indptr, x.indices, x.data, inv_sqrt(column_sums), row_extra, values)
    return sp.csr_matrix((values, x.indices, x.indptr), shape=x.shape)


@njit(nogil=True, cache=True)
def write_normalized(indptr, indices, strengths, column_factors, row_extra, values):
    """values = x̂, one row after the other, without temporary arrays.

    indptr (n + 1,), indices (nnz,), strengths (nnz,): x. column_factors: (m,), 1/√column sum.
    """
    for i in range(len(indptr) - 1):
        total = 0.0  # float64, whatever type the values are stored in
        for t in range(indptr[i], indptr[i + 1]):
            total += strengths[t]
        factor = 1.0 / np.sqrt(total + row_extra) if total > 0 else 0.0
        for t in range(indptr[i], indptr[i + 1]):
            values[t] = strengths[t] * factor * column_factors[indices[t]]
