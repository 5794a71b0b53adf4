"""The means of groups and the features made of them, by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embeddings.lookalike import SUMMARIES, centroids, group_sums, products


def test_the_mean_of_each_group_by_hand():
    """Group 0 is rows 0 and 2; row 3 is zero and row 4 in no group; nobody is in group 2."""
    vectors = np.array([[1, 2], [5, 5], [3, 6], [0, 0], [9, 9]], np.float32)
    sums, sizes = group_sums(vectors, np.array([0, 1, 0, 0, -1]), 3)
    assert sizes.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(centroids(sums, sizes), [[2, 4], [5, 5], [0, 0]])


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 9))
def test_sums_of_parts_are_the_sum(groups, cut, seed):
    """Shards may be summed apart: what a slow loop finds in the whole is the sum of both."""
    groups = np.array(groups)
    vectors = np.random.default_rng(seed).integers(-1, 2, (len(groups), 2)).astype(np.float32)
    first, rest = (
        group_sums(vectors[:cut], groups[:cut], 4),
        group_sums(vectors[cut:], groups[cut:], 4),
    )
    for group in range(4):
        members = [
            v for v, g in zip(vectors.tolist(), groups, strict=True) if g == group and any(v)
        ]
        assert first[1][group] + rest[1][group] == len(members)
        assert (first[0][group] + rest[0][group]).tolist() == [
            sum(v[0] for v in members),
            sum(v[1] for v in members),
        ]


def test_the_features_of_a_candidate_by_hand():
    """Its products with three groups are 6, 1 and 2."""
    found = products(np.array([[1.0, 2.0]]), np.array([[2.0, 2.0], [1.0, 0.0], [0.0, 1.0]]))
    assert {name: summary(found, axis=1).item() for name, summary in SUMMARIES.items()} == {
        "mean": 3,
        "max": 6,
        "median": 2,
        "min": 1,
    }
