"""Into the coordinates of an anchor: the rotation that makes versions of different days comparable."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits


def procrustes(vectors: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """The orthogonal R (k, k) that minimises ‖vectors R − anchor‖.

    vectors, anchor: (n, k), the same entities in the same order. With the SVD vectorsᵀ anchor = W S Zᵀ, R = W Zᵀ.
    A rotation of both sides changes no dot product. Source: Schönemann 1966, Psychometrika 31.
    """
    if vectors.shape != anchor.shape:
        raise ValueError(
            f"Shapes {vectors.shape} and {anchor.shape} differ: align the same entities, in one dimension."
        )
    with threadpool_limits(1):
        w, _, zt = np.linalg.svd(vectors.astype(np.float64).T @ anchor.astype(np.float64))
        return w @ zt


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of the paired rows that are zero on neither side; 0 where there is none. a, b: (n, k)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    there = norms > 0
    return float(np.mean(np.sum(a[there] * b[there], axis=1) / norms[there])) if there.any() else 0.0


def relative_residual(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / ‖b‖ (Frobenius). 0: the same; about √2: unrelated."""
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-300)
