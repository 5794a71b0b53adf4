"""Columns on disk are arrays of which slices are read, and leave nothing behind."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scratch import Field, Scratch, gathered, pieces, spread

PAIR = np.dtype([("key", "f4"), ("number", "i4")])


def test_a_column_is_the_array_of_what_was_appended():
    rng = np.random.default_rng(0)
    parts = [rng.random(n).astype(np.float32) for n in (5, 0, 1, 300)]
    whole = np.concatenate(parts)
    with Scratch() as scratch:
        column = scratch.column(np.float32)
        for part in parts:
            column.append(part)
        assert len(column) == len(whole)
        for rows in (slice(None), slice(3, 9), slice(300, 1000), slice(9, 3), slice(0, 0)):
            np.testing.assert_array_equal(column[rows], whole[rows])
        np.testing.assert_array_equal(np.concatenate([*pieces(column, 7)]), whole)


def test_every_second_value_of_a_wider_type_is_written_as_it_is():
    """Values that are not contiguous, and of another type."""
    with Scratch() as scratch:
        column = scratch.column(np.int32)
        column.append(np.arange(10, dtype=np.int64)[::2])
        assert column[:].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(tmp_path, fails):
    """Nor is there anything to see before: a process may be killed."""
    failure = pytest.raises(KeyError) if fails else nullcontext()
    with failure, Scratch(tmp_path) as scratch:
        scratch.column(np.int64).append(np.arange(1000))
        assert list(tmp_path.iterdir()) == []
        if fails:
            raise KeyError
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_what_is_spread_keeps_its_order_and_can_be_gathered_again(drawn, size):
    places = np.array(drawn, np.uint16)
    rows = np.zeros(len(places), PAIR)
    rows["number"] = np.arange(len(places))
    with Scratch() as scratch:
        placed = zip(pieces(places, size), pieces(rows, size), strict=True)
        columns = spread(placed, np.bincount(places, minlength=6), scratch)
        for place, column in enumerate(columns):
            numbers = Field(column, "number")[:]
            assert numbers.tolist() == np.flatnonzero(places == place).tolist()
        found = np.concatenate([*gathered(pieces(places, size), columns)])
    np.testing.assert_array_equal(found, rows)
