"""Degree normalisation of the consumer-producer matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def inv_sqrt(degree: np.ndarray) -> np.ndarray:
    """1/√d, and 0 where d is 0. degree: (n,), >= 0."""
    return np.divide(1.0, np.sqrt(degree), out=np.zeros(len(degree)), where=degree > 0)


def normalize(x: sp.csr_matrix, column_sums: np.ndarray | None = None) -> sp.csr_matrix:
    """Damp heavy consumers and popular producers: x̂_ij = x_ij / (√row sum · √column sum).

    x: (n_consumers, n_producers) strengths, >= 0. column_sums: (n_producers,), those of the fitted matrix when x holds
    other consumers; default: x's own. Returns the same shape and sparsity; an empty row or column stays zero.
    Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings", section on follow-graph SVD.
    """
    if column_sums is None:
        column_sums = np.asarray(x.sum(axis=0), dtype=np.float64).ravel()
    row_sums = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
    row_of = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    values = x.data * inv_sqrt(row_sums)[row_of] * inv_sqrt(column_sums)[x.indices]
    return sp.csr_matrix((values, x.indices, x.indptr), shape=x.shape)
