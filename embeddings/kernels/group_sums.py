"""Vectors summed by group, for the lookalike fold-in."""

from __future__ import annotations

import numpy as np
from numba import njit


def group_sums(
    vectors: np.ndarray, groups: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the vectors in each group, and how many there are.

    vectors: (n, k) float32. groups: (n,) int64, the group of each vector, -1 for none.
    A zero vector carries no opinion and is left out.
    Returns sums (n_groups, k) float64 and sizes (n_groups,) int64. Results of disjoint sets of
    vectors may be added up.
    """
    sums = np.zeros((n_groups, vectors.shape[1]))
    sizes = np.zeros(n_groups, np.int64)
    add_rows(vectors, groups, sums, sizes)
    return sums, sizes


@njit(nogil=True, cache=True)
def add_rows(vectors, groups, sums, sizes):
    for i in range(len(groups)):
        group = groups[i]
        if group >= 0 and np.any(vectors[i]):
            sizes[group] += 1
            for f in range(vectors.shape[1]):
                sums[group, f] += vectors[i, f]
