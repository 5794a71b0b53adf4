"""Which buckets have a vector of their own, by slow loops and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.admission import BucketCounts, Rows, Seen, with_rows
from models.features import Categorical, FeatureSpec
from models.rankers.inputs import Fields


def spec_of(sizes: list[int]) -> FeatureSpec:
    columns = tuple(Categorical(f"hash_{n}", size, str(n)) for n, size in enumerate(sizes))
    return FeatureSpec(columns, (), ("label_click",), 0)


@st.composite
def admissions(draw, sets: int = 1) -> tuple[FeatureSpec, list[np.ndarray]]:
    """Some columns, and which of their buckets have rows, once or several times."""
    spec = spec_of(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    size = sum(column.buckets for column in spec.categorical)
    return spec, [draw(arrays.arrays(bool, size)) for _ in range(sets)]


def slow_rows(spec: FeatureSpec, admitted: np.ndarray) -> dict[tuple[int, int | None], int]:
    """(column, bucket) -> row, numbered one after another; the bucket None is the shared row."""
    rows: dict[tuple[int, int | None], int] = {}
    first = 0
    for place, column in enumerate(spec.categorical):
        rows[place, None] = len(rows)
        for bucket in range(column.buckets):
            if admitted[first + bucket]:
                rows[place, bucket] = len(rows)
        first += column.buckets
    return rows


@given(admissions())
def test_every_bucket_has_its_row_or_the_shared_one(case):
    spec, (admitted,) = case
    rows, slow = Rows.of(spec, admitted), slow_rows(spec, admitted)
    assert rows.count == len(slow) == sum(c.rows for c in with_rows(spec, rows).categorical)
    first = 0
    for place, column in enumerate(spec.categorical):
        expected = [slow.get((place, b), slow[place, None]) for b in range(column.buckets)]
        assert rows.of_bucket[first : first + column.buckets].tolist() == expected
        first += column.buckets


@given(admissions(sets=2))
def test_rows_go_on_from_the_row_that_their_bucket_had(case):
    """A new one from the shared row."""
    spec, (before, after) = case
    old, new = slow_rows(spec, before), slow_rows(spec, after)
    found = Rows.of(spec, after).found_in(Rows.of(spec, before), spec)
    for (column, bucket), row in new.items():
        assert found[row] == old.get((column, bucket), old[column, None])


def test_three_days_by_hand():
    """Two rows admit; two days without a row evict, and then it begins from nothing."""
    spec = spec_of([4])
    seen = Seen.nothing(spec)
    own = []
    for counts in ([2, 1, 0, 5], [0, 1, 2, 0], [1, 0, 1, 0], [1, 0, 1, 1]):
        seen = seen.after(np.array(counts), days=1, evict_after_days=2)
        own.append((seen.rows >= 2).tolist())
    assert own == [
        [True, False, False, True],
        [True, True, True, True],
        [True, True, True, False],  # the last one was not read for two days
        [True, False, True, False],  # and one row is too few to be admitted again
    ]


def test_days_without_a_training_count_as_well():
    seen = Seen.nothing(spec_of([2])).after(np.array([1, 1]), days=0, evict_after_days=5)
    assert seen.after(np.array([0, 1]), 4, evict_after_days=5).rows.tolist() == [1, 2]
    assert seen.after(np.array([0, 1]), 5, evict_after_days=5).rows.tolist() == [0, 2]


def test_what_was_seen_survives_a_file(tmp_path):
    spec = spec_of([3, 2])
    seen = Seen.nothing(spec).after(np.array([0, 2, 1, 0, 7]), 0, 9)
    seen = seen.after(np.array([1, 0, 0, 0, 1]), 2, 9)
    seen.save(tmp_path)
    found = Seen.load(tmp_path, spec)
    np.testing.assert_array_equal(found.rows, seen.rows)
    np.testing.assert_array_equal(found.age, seen.age)


def test_rows_are_counted_by_bucket():
    """Of each column on its own, also where a block has a bucket twice."""
    counts = BucketCounts(spec_of([3, 2]))
    counts.add(np.array([[0, 1], [2, 1], [2, 0]]))
    counts.add(np.array([[2, 1]]))
    assert counts.counts.tolist() == [1, 0, 3, 1, 3]


def test_the_input_layer_reads_the_row_of_each_bucket():
    spec = spec_of([3, 2])
    rows = Rows.of(spec, np.array([False, True, False, False, True]))
    fields = Fields(with_rows(spec, rows), width=2, number_fields=1)
    fields.row_of_R.copy_(torch.from_numpy(rows.of_bucket))
    assert fields.table.num_embeddings == 4
    found = fields.categorical(torch.tensor([[0, 0], [1, 1], [2, 0]]))
    expected = fields.table(torch.tensor([[0, 2], [1, 3], [0, 2]]))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_rows_are_no_part_of_what_a_model_reads():
    """A spec without them keeps its bytes, and equals one with them."""
    spec = spec_of([3])
    assert "rows" not in spec.to_json()
    (column,) = spec.categorical
    owned = replace(spec, categorical=(replace(column, rows=2),))
    assert owned == spec
    assert FeatureSpec.from_json(owned.to_json()).categorical[0].rows == 2
