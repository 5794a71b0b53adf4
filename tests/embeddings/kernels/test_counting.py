"""Counting pairs, against `collections.Counter` and SciPy's sums."""

from __future__ import annotations

from collections import Counter

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from embeddings.kernels.counting import Pairs, count_pairs, relabel, row_sums, sort_by_row

N, M = 6, 5  # consumers, producers
EVENTS = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, M - 1), st.integers(1, 10**12), st.booleans()),
    max_size=60,
)


def count(events: list[tuple[int, int, int, bool]]) -> Pairs:
    columns = list(zip(*events, strict=True)) or [(), (), (), ()]
    types = (np.int32, np.int32, np.int64, np.bool_)
    return count_pairs(*(np.array(c, t) for c, t in zip(columns, types, strict=True)), (N, M))


@given(EVENTS)
def test_pairs_are_counted_as_a_counter_counts_them(events):
    pairs = count(events)
    sums, numbers = Counter(), Counter()
    for consumer, producer, millionths, _ in events:
        sums[consumer, producer] += millionths
        numbers[consumer, producer] += 1
    consumers = np.repeat(np.arange(N), np.diff(pairs.indptr)).tolist()
    keys = list(zip(consumers, pairs.indices.tolist(), strict=True))
    assert dict(zip(keys, pairs.millionths.tolist(), strict=True)) == sums
    assert dict(zip(keys, pairs.events.tolist(), strict=True)) == numbers
    assert {key for key, ranks in zip(keys, pairs.ranks, strict=True) if ranks} == {
        e[:2] for e in events if e[3]
    }
    assert len(keys) == len(set(keys))


@given(EVENTS, st.permutations(range(M)), st.integers(0, M))
def test_relabelled_rows_are_the_chosen_columns_of_the_sum_that_scipy_makes(
    events, order, n_columns
):
    """Columns are chosen from a dense sum, permuted, and compared as sorted CSR."""
    chosen = order[:n_columns]
    columns = np.full(M, -1, np.int32)
    columns[chosen] = np.arange(n_columns)
    indptr, indices, millionths, numbers = relabel(count(events), columns, n_columns)
    rows, cols, values, _ = [np.array(c, np.int64) for c in zip(*events, strict=True)] or [
        np.empty(0, np.int64)
    ] * 4
    sums, ones = (
        sp.coo_matrix((v, (rows, cols)), (N, M)).toarray()[:, chosen]
        for v in (values, np.ones_like(rows))
    )
    expected = sp.csr_matrix(sums)
    np.testing.assert_array_equal(indptr, expected.indptr)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(millionths, expected.data)
    np.testing.assert_array_equal(numbers, ones.sum(axis=1))
    assert [a.dtype for a in (indptr, indices, millionths, numbers)] == [
        np.int64,
        np.int32,
        np.int64,
        np.int32,
    ]


@given(st.lists(st.integers(0, N - 1), max_size=40))
def test_the_counting_sort_keeps_the_order_of_a_rows_events(rows):
    starts, order = sort_by_row(np.array(rows, np.int32), N)
    np.testing.assert_array_equal(order, np.argsort(np.array(rows, np.int32), kind="stable"))
    assert np.diff(starts).tolist() == [rows.count(row) for row in range(N)]


def test_sums_stay_exact_where_floats_do_not():
    """2⁵³ + 1 is not a float64."""
    assert count([(0, 0, 2**53, False), (0, 0, 1, False)]).millionths.tolist() == [2**53 + 1]


def test_an_empty_row_sums_to_zero():
    assert row_sums(np.array([3, 4, 5]), np.array([0, 0, 2, 2, 3])).tolist() == [0, 7, 0, 5]
