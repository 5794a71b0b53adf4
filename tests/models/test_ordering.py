"""Packed integers are sorted as a stable argsort sorts the keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.ordering import ascending

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
