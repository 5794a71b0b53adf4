"""Truncated SVD of the normalised consumer-producer matrix, and the vectors made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class Factors:
    """What one factorisation leaves behind. k columns everywhere, strongest direction first."""

    consumers: np.ndarray  # (n_consumers, k) float32, U√Σ
    producers: np.ndarray  # (n_producers, k) float32, V√Σ
    fold_in: np.ndarray  # (n_producers, k) float32, V Σ^(-1/2)
    singular_values: np.ndarray  # (k,) float64, descending


def truncated_svd(x: sp.csr_matrix, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest singular triplets of x: (U (n, k), σ (k,) descending, V (m, k)).

    Where x has fewer than k directions the rest are zero columns, so the width never depends on the day. Signs are
    fixed (the largest entry of each column of V is positive) and the start vector is seeded: same input, same result.
    """
    rank = min(x.shape)
    with threadpool_limits(1):
        if rank <= 2 * k or rank <= 64:  # ARPACK wants k well below the rank; this small, dense is exact and fast
            u, sigma, vt = np.linalg.svd(x.toarray(), full_matrices=False)
        else:
            start = np.random.default_rng(seed).standard_normal(rank)
            u, sigma, vt = svds(x, k=k, v0=start, tol=0)
            order = np.argsort(-sigma)
            u, sigma, vt = u[:, order], sigma[order], vt[order]
    u, sigma, v = u[:, :k], sigma[:k].copy(), vt[:k].T
    negligible = sigma <= 1e-12 * max(sigma.max(initial=0.0), 1e-300)
    signs = np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])])
    signs[negligible | (signs == 0)] = 0.0
    sigma[negligible] = 0.0
    missing = (0, k - len(sigma))
    return np.pad(u * signs, ((0, 0), missing)), np.pad(sigma, missing), np.pad(v * signs, ((0, 0), missing))


def factorize(x: sp.csr_matrix, k: int, seed: int = 0) -> Factors:
    """Embed both sides, consumers U√Σ and producers V√Σ: their dot product approximates x. V Σ^(-1/2) folds in.

    x: (n_consumers, n_producers), normalised. Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with
    Embeddings", matrix factorisation.
    """
    u, sigma, v = truncated_svd(x, k, seed)
    root = np.sqrt(sigma)
    inverse_root = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    return Factors(
        consumers=(u * root).astype(np.float32),
        producers=(v * root).astype(np.float32),
        fold_in=(v * inverse_root).astype(np.float32),
        singular_values=sigma,
    )
