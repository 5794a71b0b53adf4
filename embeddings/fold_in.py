"""Vectors for consumers that the model was not fitted on: one formula for the nightly batch and a single request."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.normalize import normalize


def fold_in(x: sp.csr_matrix, column_sums: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """u = x̂ F with F = V Σ^(-1/2): where the SVD would have put these consumers, U√Σ = X̂ V Σ^(-1/2).

    x: (n, n_producers) raw strengths of consumers left out of the fit. column_sums: (n_producers,), the fitted
    matrix's. matrix: (n_producers, k), the version's fold-in matrix. Returns (n, k) float32; no strengths, zeros.
    Raises ValueError when the three disagree about the number of producers.
    Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings", fold-in.
    """
    if not x.shape[1] == len(column_sums) == len(matrix):
        raise ValueError(
            f"Strengths of {x.shape[1]} producers, column sums of {len(column_sums)}, "
            f"a fold-in matrix of {len(matrix)}: all three must come from one version."
        )
    return np.asarray(normalize(x, column_sums) @ matrix.astype(np.float64), dtype=np.float32)
