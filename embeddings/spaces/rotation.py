"""Rotations that make versions of different days comparable.

A factorisation is determined only up to an orthogonal R: (U R)(V R)ᵀ = U Vᵀ. `canonical_axes`
chooses R from a version alone, for the first day of a space; `Rotations` rotates a later day to the
reference of its space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits

SLICE = 8192  # rows summed at once in float64
FOLDS = 5  # an entity is judged by a rotation that the entities of its fold had no part in


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


def canonical_axes(consumers: np.ndarray, producers: np.ndarray) -> np.ndarray:
    """The orthogonal R (k, k) that puts a version on the principal axes of both of its sides.

    consumers: (n, k); producers: (m, k). The columns of R are the eigenvectors of
    UᵀU / tr UᵀU + VᵀV / tr VᵀV, largest first: where both Gram matrices have the same eigenvectors
    these are the singular directions of the product U Vᵀ, so that the first columns approximate it
    best. Each has the sign that makes Σ_i (V R)_ij³ positive. A rotated copy of a version gets the
    same axes, unless two eigenvalues are equal or one of these sums is zero. Computed in float64.
    """
    with threadpool_limits(1):
        u, v = consumers.astype(np.float64), producers.astype(np.float64)
        gram = sum(side.T @ side / max(np.sum(side * side), 1e-300) for side in (u, v))
        _, axes = np.linalg.eigh(gram)
        axes = axes[:, ::-1]  # eigh sorts ascending
        skew = np.sum((v @ axes) ** 3, axis=0)
    return axes * np.where(skew < 0, -1.0, 1.0)


@dataclass(frozen=True)
class Group:
    """Entities of one side and fold that a day shares with a reference: n pairs of vectors.

    day: (n, k) float32, of length 1; reference: (n, k) float32, of length at most 1; weights: (n,)
    float32, > 0.
    """

    fold: int
    day: np.ndarray
    reference: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.day)

    def product(self) -> np.ndarray:
        """Σ w x rᵀ over the pairs (x, r) of weight w, (k, k) float64."""
        k = self.day.shape[1]
        total = np.zeros((k, k))
        for start in range(0, len(self), SLICE):
            rows = slice(start, start + SLICE)
            weighted = self.day[rows] * self.weights[rows, None].astype(np.float64)
            total += weighted.T @ self.reference[rows].astype(np.float64)
        return total


Pairs = list[Group]  # all that a day shares with a reference


def n_pairs(pairs: Pairs) -> int:
    """How many entities that are."""
    return sum(map(len, pairs))


@dataclass(frozen=True)
class Rotations:
    """The rotation of a day to a reference, and one per fold that its entities had no part in.

    Each is W Zᵀ of the SVD W S Zᵀ of Σ w x rᵀ over the pairs (x, r) of weight w, which maximises
    Σ w (x R)·r. whole: (k, k); left: (FOLDS, k, k), W; right: (FOLDS, k, k), Z.
    """

    whole: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, pairs: Pairs) -> Rotations:
        """Source: Schönemann 1966, as `procrustes`."""
        k = pairs[0].day.shape[1]
        products = np.zeros((FOLDS, k, k))
        with threadpool_limits(1):
            for group in pairs:
                products[group.fold] += group.product()
            total = products.sum(axis=0)
            whole, _, whole_right = np.linalg.svd(total)
            left, _, right = np.linalg.svd(total - products)
        return cls(whole @ whole_right, left, right.transpose(0, 2, 1))

    def held_out(self, vectors: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Each vector by the rotation that its own fold had no part in. folds: (n,)."""
        rotated = np.empty_like(vectors)
        with threadpool_limits(1):
            for fold in range(FOLDS):
                rows = folds == fold
                rotation = (self.left[fold] @ self.right[fold].T).astype(np.float32)
                rotated[rows] = vectors[rows] @ rotation
        return rotated
