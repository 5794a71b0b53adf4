"""Alignment: rotations that make versions of different days comparable.

A factorisation is determined only up to an orthogonal R: (U R)(V R)ᵀ = U Vᵀ. `canonical_axes`
chooses R from a version alone, which an anchor needs. `procrustes` rotates a later version onto the
anchor.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits

TIE = 1e-5  # float32 cosines closer than this count as equal
BLOCK = 256  # entities compared with all others at once; bounds the (BLOCK, n) cosines in memory


def procrustes(vectors: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """The orthogonal R (k, k) float64 that minimises Σ_i ‖vectors_i R − anchor_i‖².

    vectors, anchor: (n, k), the same entities in the same order. With the SVD
    vectorsᵀ anchor = W S Zᵀ, R = W Zᵀ. Rotating consumers and producers by R changes no dot product
    between them. Raises ValueError if the shapes differ or a value is not finite. Source:
    Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem", Psychometrika
    31.
    """
    if vectors.shape != anchor.shape:
        raise ValueError(
            f"Shapes {vectors.shape} and {anchor.shape} differ: "
            "align the same entities, in one dimension."
        )
    a = vectors.astype(np.float64)
    b = anchor.astype(np.float64)
    with threadpool_limits(1):
        # The check of both (n, k) arrays is redundant: the SVD inside checks their (k, k) product,
        # and a NaN in any row ends up there.
        rotation, _ = orthogonal_procrustes(a, b, check_finite=False)
    return rotation


def canonical_axes(vectors: np.ndarray) -> np.ndarray:
    """The orthogonal R (k, k) that puts a version on its own principal axes.

    vectors: (n, k), usually the producers'. The Gram matrix of vectors R is diagonal, largest
    first: the columns of R are the eigenvectors of vectorsᵀ vectors, each with the sign that makes
    Σ_i (vectors R)_ij³ positive. A rotated copy of a version gets the same axes, unless two
    eigenvalues are equal or one of these sums is zero. Computed in float64.
    """
    with threadpool_limits(1):
        v = vectors.astype(np.float64)
        _, axes = np.linalg.eigh(v.T @ v)
        axes = axes[:, ::-1]  # eigh sorts ascending
        skew = np.sum((v @ axes) ** 3, axis=0)
    return axes * np.where(skew < 0, -1.0, 1.0)


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of paired rows, skipping pairs with a zero row; 0 if no pair is left.

    a, b: (n, k).
    """
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    nonzero = norms > 0
    if not nonzero.any():
        return 0.0
    dots = np.sum(a[nonzero] * b[nonzero], axis=1)
    return float(np.mean(dots / norms[nonzero]))


def relative_residual(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / ‖b‖ (Frobenius norms): 0 if equal, about √2 if unrelated and of equal norm."""
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-300)


def neighbour_overlap(a: np.ndarray, b: np.ndarray, k: int = 10, most: int = 2000) -> float:
    """Share of an entity's k nearest by cosine in `a` that are also among its k nearest in `b`.

    Returns the mean over entities, 0 if there are fewer than two. No rotation of a or b changes it.
    a, b: (n, width), the same entities in the same order; widths may differ. Entities that are zero
    in a or b are left out. most: if more entities remain, only this many, evenly spaced, are
    compared, each with all. In b, every entity within TIE of the k-th nearest counts as one of the
    k, because equal vectors have no order.
    """
    nonzero = a.any(axis=1) & b.any(axis=1)
    n = int(nonzero.sum())
    k = min(k, n - 1)
    if k < 1:
        return 0.0
    unit_a = unit_rows(a[nonzero])
    unit_b = unit_rows(b[nonzero])
    sample = np.linspace(0, n - 1, min(n, most)).astype(np.int64)
    shared = 0
    with threadpool_limits(1):
        for rows in np.array_split(sample, -(-len(sample) // BLOCK)):
            near_a = cosines(unit_a, rows)
            near_b = cosines(unit_b, rows)
            nearest = np.argpartition(-near_a, k - 1, axis=1)[:, :k]
            kth = np.partition(near_b, n - k, axis=1)[:, n - k, None]
            shared += int(np.sum(np.take_along_axis(near_b, nearest, axis=1) >= kth - TIE))
    return shared / (len(sample) * k)


def unit_rows(v: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32. v: (n, k), no row zero."""
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def cosines(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The cosine of each of these rows with every row, (len(rows), n).

    unit: (n, k), rows of length 1. A row's cosine with itself is set to −2, so that it is never its
    own neighbour.
    """
    products = unit[rows] @ unit.T
    products[np.arange(len(rows)), rows] = -2.0
    return products
