"""EASE: every producer is predicted from the others by ridge regression, in closed form.

    B = argmin ‖X − XB‖² + λ‖B‖²  with  diag(B) = 0
      = I − P / diag(P), column by column,  where  P = (XᵀX + λI)⁻¹

Scores of a history h are hB. Source: Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse
Data", arXiv:1905.03375.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg.lapack import dpotrf, dpotri

from embeddings.baselines import Scorer

CHUNK = 1024  # columns whose products with all consumers are in memory at once
BEHIND = np.float32(2**23)  # less than any score of EASE; counts below it stay distinct


def ease(x: sp.csr_matrix, penalty: float) -> Scorer:
    """Fit EASE. x: (n, m) strengths; penalty: λ > 0, in units of a squared strength.

    Takes the time of one inverse, and the memory of two square matrices, whose size is the smaller
    of n and m.
    """
    if x.shape[1] <= x.shape[0]:
        return ease_of_producers(x, penalty)
    return ease_of_consumers(x, penalty)


def ease_of_top(x: sp.csr_matrix, penalty: float, most: int) -> Scorer:
    """EASE of the `most` producers with the most consumers; the others follow, by popularity.

    So it takes the time of an inverse of that size, whatever m is. Whoever has engaged with none of
    the top producers is shown what is popular.
    """
    counts = np.bincount(x.indices, minlength=x.shape[1])
    top = np.sort(np.argsort(-counts, kind="stable")[:most])
    fitted = ease_of_producers(x[:, top], penalty)

    def scores(history: sp.csr_matrix) -> np.ndarray:
        known = history[:, top]
        found = np.tile(counts.astype(np.float32), (history.shape[0], 1))
        someone = np.flatnonzero(np.diff(known.indptr))
        found[someone] -= BEHIND
        found[np.ix_(someone, top)] = fitted(known[someone])
        return found

    return scores


def ease_of_producers(x: sp.csr_matrix, penalty: float) -> Scorer:
    """EASE by the inverse of an (m, m) matrix."""
    inverse = inverse_of((x.T @ x).toarray(), penalty)
    diagonal = inverse.diagonal().copy()
    inverse /= -diagonal
    np.fill_diagonal(inverse, 0.0)
    weights = inverse.astype(np.float32)
    return lambda history: history @ weights


def ease_of_consumers(x: sp.csr_matrix, penalty: float) -> Scorer:
    """EASE by the inverse of an (n, n) matrix.

    With A = (XXᵀ + λI)⁻¹, Woodbury's identity says λP = I − XᵀAX. So with g = diag(λP) and the
    products of columns ÷ g, hB = h − h/g + (hXᵀ)AX/g.
    """
    inverse = inverse_of((x @ x.T).toarray(), penalty)
    by_column = x.T.tocsr()
    left = np.empty(x.shape[1])  # g
    for start in range(0, x.shape[1], CHUNK):
        columns = by_column[start : start + CHUNK]
        left[start : start + CHUNK] = 1 - columns.multiply(columns @ inverse).sum(axis=1).A1

    def scores(history: sp.csr_matrix) -> np.ndarray:
        near = (history @ by_column).toarray() @ inverse  # (r, n)
        own = history.multiply(1 - 1 / left).toarray()
        return (own + (by_column @ near.T).T / left).astype(np.float32)

    return scores


def inverse_of(gram: np.ndarray, penalty: float) -> np.ndarray:
    """(G + λI)⁻¹ of a symmetric matrix of whole or real numbers, (d, d) float64."""
    gram = gram.astype(np.float64, order="F")
    gram[np.diag_indices_from(gram)] += penalty
    # Two fifths of the time of solving for every column of the identity.
    factor, _ = dpotrf(gram, lower=1, overwrite_a=1)
    lower, _ = dpotri(factor, lower=1, overwrite_c=1)
    upper = np.triu_indices_from(lower, 1)
    lower[upper] = lower.T[upper]
    return lower
