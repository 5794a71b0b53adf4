"""Vectors summed by group, for the lookalike fold-in."""

from __future__ import annotations

import numpy as np
from numba import njit


def group_sums(
    vectors: np.ndarray, groups: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the vectors in each group, and their number.

    vectors: (n, k) float32. groups: (n,) int64, the group of each vector, -1 for none. Zero vectors
    are left out: they would only shorten the mean. Returns sums (n_groups, k) float64 and sizes
    (n_groups,) int64. The results of disjoint sets of vectors may be added up.
    """
    sums = np.zeros((n_groups, vectors.shape[1]))
    sizes = np.zeros(n_groups, np.int64)
    add_rows(vectors, groups, sums, sizes)
    return sums, sizes


@njit(nogil=True, cache=True)
def add_rows(vectors, groups, sums, sizes):
    """Add every vector that is not zero to the sum and the size of its group, in place."""
    for i in range(len(groups)):
        group = groups[i]
        if group >= 0 and np.any(vectors[i]):
            sizes[group] += 1
            for f in range(vectors.shape[1]):
                sums[group, f] += vectors[i, f]
