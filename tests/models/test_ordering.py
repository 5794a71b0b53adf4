"""Packed integers are sorted as a stable argsort sorts the keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.ordering import ascending, consecutive, in_order
from models.scratch import Scratch

FLOATS = arrays.arrays(
    np.float32,
    st.integers(0, 50),
    elements=st.one_of(
        st.floats(width=32),  # NaN, infinities and subnormal numbers among them
        st.sampled_from([0.0, -0.0, 0.5, -0.5, float("inf"), float("-inf")]),
    ),
)
INTEGERS = arrays.arrays(np.int32, st.integers(0, 50), elements=st.integers(-(2**31), 2**31 - 1))


@given(st.one_of(FLOATS, INTEGERS, FLOATS.map(lambda keys: keys.astype(np.float64))))
def test_the_order_is_that_of_a_stable_argsort(keys):
    assert ascending(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("distinct", [1, 7, 1 << 30])
def test_many_rows_with_equal_keys_stay_in_order(distinct):
    keys = (np.random.default_rng(0).integers(0, distinct, 100_000) / distinct).astype(np.float32)
    assert np.array_equal(ascending(keys), np.argsort(keys, kind="stable"))
    assert np.array_equal(ascending(-keys), np.argsort(-keys, kind="stable"))


KEYS = st.one_of(
    FLOATS.filter(lambda keys: not np.isnan(keys).any()),
    INTEGERS,
    arrays.arrays(np.int32, st.integers(0, 50), elements=st.integers(-3, 3)),
)


@given(KEYS, st.integers(1, 12))
def test_rows_on_disk_are_put_in_the_same_order_a_piece_at_a_time(keys, piece):
    """Some keys differ in their last bits alone, and of some there are many pieces."""
    rows = np.zeros(len(keys), [("key", keys.dtype), ("number", np.uint32)])
    rows["key"], rows["number"] = keys, np.arange(len(keys))
    with Scratch(piece=piece) as scratch:
        found = list(in_order(rows, "key", scratch))
    assert max(len(each) for each in found) <= piece
    numbers = np.concatenate(found)["number"]
    assert numbers.tolist() == np.argsort(keys, kind="stable").tolist()


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 20))
def test_bins_are_grouped_until_they_are_a_piece(counts, most):
    groups = consecutive(np.array(counts), most)
    assert (np.diff(groups.astype(int), prepend=0) <= 1).all()
    sizes = np.bincount(groups, counts)
    for group in np.flatnonzero(sizes > most):
        assert np.count_nonzero(np.array(counts)[groups == group]) == 1
    assert (sizes[1:] + sizes[:-1] > most).all()  # or two would be one
