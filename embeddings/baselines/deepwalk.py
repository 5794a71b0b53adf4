"""DeepWalk in closed form: what skip-gram learns from endlessly many walks is one matrix.

A walk goes from a consumer to a producer, to another consumer and so on, each time along an edge in
proportion to its strength. Skip-gram with b negative samples then factorises

    log max(M, 1),  M_ij = 1/b · P(i, j) / (P(i) P(j))
                         = Σx / b · mean_r (D_c^(-1/2) S^r D_p^(-1/2))_ij

where i and j are r steps apart, D_c and D_p are the sums of rows and columns of x, and
S = D_c^(-1/2) x D_p^(-1/2). From a consumer, producers are an odd number of steps away; the pairs
of two consumers or two producers, at even distances, are left out: an (n, m) matrix instead of an
(n + m, n + m) one.

Sources: Perozzi et al. 2014, "DeepWalk", arXiv:1403.6652; Qiu et al. 2018, "Network Embedding as
Matrix Factorization", arXiv:1710.02971, Eq. 6.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.embedders.svd import Factors, factorize
from embeddings.kernels.normalize import inv_sqrt, normalize

ROWS = 1024  # of M that are dense at once


def deepwalk(
    x: sp.csr_matrix, dim: int, window: int, seed: int = 0, negatives: float = 1.0, threads: int = 1
) -> Factors:
    """Vectors whose products approximate log max(M, 1).

    x: (n, m) strengths > 0; of a graph of friends, its symmetric adjacency. window: the largest
    distance in a walk, of which the odd ones up to it count. negatives: b.
    """
    return factorize(walk_matrix(x, window, negatives), dim, seed, threads)


def walk_matrix(x: sp.csr_matrix, window: int, negatives: float = 1.0) -> sp.csr_matrix:
    """log max(M, 1) as above, (n, m) float64; most of its numbers are zero.

    Takes memory for two dense square matrices of the smaller side.
    """
    steps = normalize(x)  # S
    of_rows = inv_sqrt(np.asarray(x.sum(axis=1)).ravel())
    of_columns = inv_sqrt(np.asarray(x.sum(axis=0)).ravel()) * x.sum() / negatives
    by_rows = x.shape[0] < x.shape[1]
    gram = (steps @ steps.T if by_rows else steps.T @ steps).toarray().astype(np.float32)
    powers = mean_power(gram, (window + 1) // 2)
    chunks = []
    for start in range(0, x.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        # Sparse on the left, since dense times sparse is a sparse product of the transposes.
        walked = (steps.T @ powers[rows].T).T if by_rows else steps[rows] @ powers
        ratios = of_rows[rows, None] * walked * of_columns
        chunks.append(sp.csr_matrix(np.log(np.maximum(ratios, 1.0))))
    return sp.vstack(chunks, format="csr")


def mean_power(gram: np.ndarray, count: int) -> np.ndarray:
    """The mean of the first `count` powers of a square matrix: I, G, G², …"""
    total = np.eye(len(gram), dtype=gram.dtype)
    for _ in range(count - 1):
        total = gram @ total  # Horner's scheme: I + G (I + G (…))
        total[np.diag_indices_from(total)] += 1
    return total / count
