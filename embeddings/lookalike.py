"""Lookalike folding-in, for people who have engaged with nothing: the vectors of those who share something with them.

Consumers are averaged by group (a region, an interest, any column of their profiles); a newcomer's groups are
multiplied with the candidates, and the products summed up over the groups are features of a ranker.
Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings", lookalike folding-in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

# The features of a candidate: its products with a newcomer's groups, summed up along the last axis.
SUMMARIES: dict[str, Callable[..., np.ndarray]] = {
    "mean": np.mean,
    "max": np.max,
    "median": np.median,
    "min": np.min,
}


def group_sums(
    vectors: np.ndarray, groups: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors summed by group. vectors: (n, k) float32. groups: (n,) int64, the group of each, -1 for none.

    A vector of zeros is nobody's opinion and is left out. Returns sums (n_groups, k) float64 and how many are in each,
    sizes (n_groups,) int64; both may be added to those of other consumers.
    """
    sums, sizes = np.zeros((n_groups, vectors.shape[1])), np.zeros(n_groups, np.int64)
    add_rows(vectors, groups, sums, sizes)
    return sums, sizes


def centroids(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The mean of each group, (n_groups, k) float32; zeros for a group of nobody."""
    return (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def products(candidates: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The dot product of each candidate with each group. candidates: (n, k). groups: (g, k). Returns (n, g)."""
    return np.vecdot(candidates[:, None], groups)  # @ wakes BLAS's threads


@njit(nogil=True, cache=True)
def add_rows(vectors, groups, sums, sizes):
    for i in range(len(groups)):
        group = groups[i]
        if group >= 0 and np.any(vectors[i]):
            sizes[group] += 1
            for f in range(vectors.shape[1]):
                sums[group, f] += vectors[i, f]
