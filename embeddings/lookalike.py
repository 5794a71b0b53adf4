"""Lookalike folding-in, for a consumer without engagements: vectors of similar consumers instead.

Consumers are averaged by group (a region, an interest, any column of their profiles). The dot
products of a new consumer's groups with a candidate, summarised over the groups, are features of
a ranker. Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings",
lookalike folding-in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# The features of a candidate: its dot products with the groups, summarised along the last axis.
SUMMARIES: dict[str, Callable[..., np.ndarray]] = {
    "mean": np.mean,
    "max": np.max,
    "median": np.median,
    "min": np.min,
}


def centroids(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The mean of each group, (n_groups, k) float32; zeros for an empty group.

    sums: (n_groups, k), sizes: (n_groups,), as `kernels.group_sums` returns them.
    """
    return (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def products(candidates: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The dot product of every candidate with every group.

    candidates: (n, k). groups: (g, k). Returns (n, g).
    """
    # Not @: it wakes BLAS's threads, which slows a single request down.
    return np.vecdot(candidates[:, None], groups)
