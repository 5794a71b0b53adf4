"""How similar two sets of vectors are: cosines, and neighbours that both have."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

SHORTEST = 1e-15  # length of a vector; the square of a shorter one is no float32 any more
TIE = 1e-5  # float32 cosines closer than this count as equal
BLOCK = 256  # entities compared with all others at once; bounds the (BLOCK, n) cosines in memory


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
    """Rows scaled to length 1, float32; a row of zeros stays one. v: (n, k)."""
    lengths = np.linalg.norm(v, axis=1, keepdims=True)
    return (v / np.maximum(lengths, SHORTEST)).astype(np.float32)


def cosines(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The cosine of each of these rows with every row, (len(rows), n).

    unit: (n, k), rows of length 1. A row's cosine with itself is set to −2, so that it is never its
    own neighbour.
    """
    products = unit[rows] @ unit.T
    products[np.arange(len(rows)), rows] = -2.0
    return products
