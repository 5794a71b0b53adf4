"""Counting pairs, against `collections.Counter` and dense sums."""

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
    """The pairs of these events: consumer, producer, millionths, ranks."""
    consumers, producers, millionths, ranks = list(zip(*events, strict=True)) or [()] * 4
    return count_pairs(
        np.array(consumers, np.int32),
        np.array(producers, np.int32),
        np.array(millionths, np.int64),
        np.array(ranks, np.bool_),
        (N, M),
    )


@given(EVENTS)
def test_pairs_are_those_of_a_counter(events):
    pairs = count(events)
    sums = Counter()
    numbers = Counter()
    ranking = set()
    for consumer, producer, millionths, ranks in events:
        sums[consumer, producer] += millionths
        numbers[consumer, producer] += 1
        if ranks:
            ranking.add((consumer, producer))
    consumers = np.repeat(np.arange(N), np.diff(pairs.indptr)).tolist()
    keys = list(zip(consumers, pairs.indices.tolist(), strict=True))
    assert dict(zip(keys, pairs.millionths.tolist(), strict=True)) == sums
    assert dict(zip(keys, pairs.events.tolist(), strict=True)) == numbers
    assert {key for key, ranks in zip(keys, pairs.ranks, strict=True) if ranks} == ranking
    assert len(keys) == len(set(keys))


@given(EVENTS, st.permutations(range(M)), st.integers(0, M))
def test_relabelled_rows_are_the_chosen_columns_of_dense_sums(events, order, n_columns):
    """The columns are chosen from a dense sum, in any order, and compared as sorted CSR."""
    chosen = order[:n_columns]
    columns = np.full(M, -1, np.int32)
    columns[chosen] = np.arange(n_columns)
    indptr, indices, millionths, numbers = relabel(count(events), columns, n_columns)
    dense_sums = np.zeros((N, M), np.int64)
    dense_numbers = np.zeros((N, M), np.int64)
    for consumer, producer, value, _ in events:
        dense_sums[consumer, producer] += value
        dense_numbers[consumer, producer] += 1
    expected = sp.csr_matrix(dense_sums[:, chosen])
    np.testing.assert_array_equal(indptr, expected.indptr)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(millionths, expected.data)
    np.testing.assert_array_equal(numbers, dense_numbers[:, chosen].sum(axis=1))
    assert (indptr.dtype, indices.dtype) == (np.int64, np.int32)
    assert (millionths.dtype, numbers.dtype) == (np.int64, np.int32)


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
