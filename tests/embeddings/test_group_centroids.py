"""Group means and the features computed from them, checked by hand and by slow loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embeddings.kernels.group_sums import group_sums
from embeddings.lookalike import SUMMARIES, centroids, products


def test_the_mean_of_each_group_by_hand():
    """Group 0 is rows 0 and 2, group 2 is empty; row 3 is zero and row 4 in no group."""
    vectors = np.array([[1, 2], [5, 5], [3, 6], [0, 0], [9, 9]], np.float32)
    sums, sizes = group_sums(vectors, np.array([0, 1, 0, 0, -1]), 3)
    assert sizes.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(centroids(sums, sizes), [[2, 4], [5, 5], [0, 0]])


def slow_sums(vectors: np.ndarray, groups: np.ndarray, n_groups: int) -> tuple[list, list]:
    sums = [[0.0, 0.0] for _ in range(n_groups)]
    sizes = [0] * n_groups
    for (x, y), group in zip(vectors.tolist(), groups.tolist(), strict=True):
        if group >= 0 and (x, y) != (0, 0):
            sums[group][0] += x
            sums[group][1] += y
            sizes[group] += 1
    return sums, sizes


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 9))
def test_sums_of_two_shards_add_up_to_the_sums_of_all(groups, cut, seed):
    groups = np.array(groups)
    vectors = np.random.default_rng(seed).integers(-1, 2, (len(groups), 2)).astype(np.float32)
    first_sums, first_sizes = group_sums(vectors[:cut], groups[:cut], 4)
    other_sums, other_sizes = group_sums(vectors[cut:], groups[cut:], 4)
    sums, sizes = slow_sums(vectors, groups, 4)
    assert (first_sums + other_sums).tolist() == sums
    assert (first_sizes + other_sizes).tolist() == sizes


def test_the_features_of_a_candidate_by_hand():
    """Its products with three groups are 6, 1 and 2."""
    dots = products(np.array([[1.0, 2.0]]), np.array([[2.0, 2.0], [1.0, 0.0], [0.0, 1.0]]))
    features = {name: summary(dots, axis=1).item() for name, summary in SUMMARIES.items()}
    assert features == {"mean": 3, "max": 6, "median": 2, "min": 1}
