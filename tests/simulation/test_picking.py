"""Draws by weight, against a binary search and a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.picking import Groups, chosen

WEIGHTS = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


@given(WEIGHTS, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_a_place_is_that_of_a_binary_search(weights, drawn):
    groups = Groups.of(np.zeros(len(weights), np.int64), np.array(weights), 1)
    # The ends of the guide's cells, too, where a division may round up.
    ends = np.arange(1, len(groups.guide)) / len(groups.guide)
    targets = np.concatenate([drawn, np.nextafter(ends, 0)]) * groups.ends[-1]
    expected = np.searchsorted(groups.cumulated, targets, side="right")
    np.testing.assert_array_equal(groups.place(targets), np.minimum(expected, len(weights) - 1))


def test_members_are_drawn_from_their_group_by_weight():
    group = np.array([2, 0, 2, 0, 2])
    weights = np.array([1.0, 3.0, 2.0, 1.0, 7.0])
    picked = Groups.of(group, weights, 3).pick(np.full(40_000, 2), np.linspace(0, 1, 40_000, False))
    counts = np.bincount(picked, minlength=5)
    np.testing.assert_allclose(counts / len(picked), [0.1, 0, 0.2, 0, 0.7], atol=1e-4)


def test_a_group_without_members_has_no_weight():
    np.testing.assert_array_equal(Groups.of(np.array([1]), np.array([4.0]), 3).weights, [0, 4, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_chosen_column_is_never_one_without_a_share(dtype):
    rng = np.random.default_rng(0)
    shares = rng.random((2000, 6)) * (rng.random((2000, 6)) < 0.5)
    shares[:, 3] += 0.1
    drawn = rng.random(2000)
    columns = chosen(np.cumsum(shares, axis=1).astype(dtype), drawn)
    for row, column in enumerate(columns):
        assert shares[row, column] > 0
        left = shares[row, :column].sum() / shares[row].sum()
        assert left - 1e-6 <= drawn[row] <= left + shares[row, column] / shares[row].sum() + 1e-6
