"""Into the coordinates of an anchor: the rotation that makes versions of different days comparable.

A factorisation is free up to an orthogonal R: (U R)(V R)ᵀ = U Vᵀ. `canonical_axes` fixes R for a version by itself,
which is what an anchor needs; `procrustes` turns any later version to where the anchor has the same entities.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

TIE = 1e-5  # cosines this near to each other are the same


def procrustes(
    vectors: np.ndarray, anchor: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The orthogonal R (k, k) that minimises Σ_i w_i ‖vectors_i R − anchor_i‖².

    vectors, anchor: (n, k), the same entities in the same order. weights: (n,) >= 0, by default ones. With the SVD
    vectorsᵀ diag(w) anchor = W S Zᵀ, R = W Zᵀ. A rotation of both sides changes no dot product. Raises ValueError when
    the shapes differ. Source: Schönemann 1966, Psychometrika 31.
    """
    if vectors.shape != anchor.shape:
        raise ValueError(
            f"Shapes {vectors.shape} and {anchor.shape} differ: align the same entities, in one dimension."
        )
    weighed = vectors.astype(np.float64)
    if weights is not None:
        weighed *= np.asarray(weights, dtype=np.float64)[:, None]
    with threadpool_limits(1):
        w, _, zt = np.linalg.svd(weighed.T @ anchor.astype(np.float64))
        return w @ zt


def canonical_axes(vectors: np.ndarray) -> np.ndarray:
    """The orthogonal R (k, k) that puts a version on axes of its own: vectors R has a diagonal Gram, largest first.

    vectors: (n, k), usually the producers'. The columns of R are the eigenvectors of vectorsᵀ vectors, each with the
    sign that makes Σ_i (vectors R)_ij³ positive: a version that comes rotated ends on the same axes, as far as no two
    eigenvalues are equal.
    """
    with threadpool_limits(1):
        v = vectors.astype(np.float64)
        _, axes = np.linalg.eigh(v.T @ v)
        axes = axes[:, ::-1]
        skew = np.sum((v @ axes) ** 3, axis=0)
    return axes * np.where(skew < 0, -1.0, 1.0)


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of the paired rows that are zero on neither side; 0 where there is none. a, b: (n, k)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    there = norms > 0
    return (
        float(np.mean(np.sum(a[there] * b[there], axis=1) / norms[there])) if there.any() else 0.0
    )


def relative_residual(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / ‖b‖ (Frobenius). 0: the same; about √2: unrelated."""
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-300)


def neighbour_overlap(a: np.ndarray, b: np.ndarray, k: int = 10, most: int = 2000) -> float:
    """Share of an entity's k nearest by cosine in `a` that are among its k nearest in `b`, mean over entities.

    a, b: (n, width), the same entities in the same order; widths may differ. Entities that are zero on either side are
    left out. Where more than `most` remain, that many evenly spaced ones are asked, each against all. Those as near as
    the k-th, within TIE, count as among the k: equal vectors have no order. 0 where there is nobody to compare with.
    No rotation of a or b changes it.
    """
    there = a.any(axis=1) & b.any(axis=1)
    n = int(there.sum())
    k = min(k, n - 1)
    if k < 1:
        return 0.0
    unit_a, unit_b = unit_rows(a[there]), unit_rows(b[there])
    asked = np.linspace(0, n - 1, min(n, most)).astype(np.int64)
    shared = 0
    with threadpool_limits(1):
        for rows in np.array_split(asked, -(-len(asked) // 256)):
            near_a, near_b = cosines(unit_a, rows), cosines(unit_b, rows)
            nearest = np.argpartition(-near_a, k - 1, axis=1)[:, :k]
            kth = np.partition(near_b, n - k, axis=1)[:, n - k, None]
            shared += int(np.sum(np.take_along_axis(near_b, nearest, axis=1) >= kth - TIE))
    return shared / (len(asked) * k)


def unit_rows(v: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; no row may be zero."""
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def cosines(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cosine of each of these rows with every row, (rows, n); with itself, −2: nobody is his own neighbour."""
    found = unit[rows] @ unit.T
    found[np.arange(len(rows)), rows] = -2.0
    return found
