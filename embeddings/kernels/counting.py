"""Events -> distinct (consumer, producer) pairs, by a counting sort and one dense row of scratch.

Linear in the number of events. Sums are of integers, hence exact and independent of the order.
Source: Gustavson 1978, "Two Fast Algorithms for Sparse Matrices: Multiplication and Permuted
Transposition".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit


@dataclass(frozen=True)
class Pairs:
    """The distinct pairs of n consumers, row by row; within a row in the order of first events."""

    indptr: np.ndarray  # (n + 1,) int64
    indices: np.ndarray  # (nnz,) int32, the producer
    millionths: np.ndarray  # (nnz,) int64, the sum over the pair's events
    events: np.ndarray  # (nnz,) int32, number of events
    ranks: np.ndarray  # (nnz,) bool, is one of the events of the kind by which producers rank?


def count_pairs(
    consumers: np.ndarray,
    producers: np.ndarray,
    millionths: np.ndarray,
    ranks: np.ndarray,
    shape: tuple[int, int],
) -> Pairs:
    """Sum the events of every pair.

    consumers, producers: (m,) int32 below `shape`; millionths: (m,) int64; ranks: (m,) bool.
    Returns at most m pairs.
    """
    starts, order = sort_by_row(consumers, shape[0])
    return Pairs(*merge_rows(starts, order, producers, millionths, ranks, shape[1]))


@njit(nogil=True, cache=True)
def sort_by_row(rows, n):
    """Stable counting sort; row i's events are order[starts[i]:starts[i + 1]]. rows: (m,) < n."""
    starts = np.zeros(n + 1, np.int64)
    for row in rows:
        starts[row + 1] += 1
    for i in range(n):
        starts[i + 1] += starts[i]
    free = starts[:-1].copy()
    order = np.empty(len(rows), np.int64)
    for event in range(len(rows)):
        row = rows[event]
        order[free[row]] = event
        free[row] += 1
    return starts, order


@njit(nogil=True, cache=True)
def merge_rows(starts, order, columns, millionths, ranks, n_columns):
    """Add up the events of each row that have the same column; returns the fields of `Pairs`.

    starts, order: from `sort_by_row`. columns, millionths, ranks: (m,), by event.
    """
    indptr = np.zeros(len(starts), np.int64)
    # At most one pair per event; cut to size at the end.
    indices = np.empty(len(order), np.int32)
    sums = np.empty(len(order), np.int64)
    events = np.empty(len(order), np.int32)
    ranked = np.empty(len(order), np.bool_)
    # The newest pair of each column. Never cleared: a pair before the row's first one belongs to an
    # earlier row.
    place = np.full(n_columns, -1, np.int64)
    end = 0
    for row in range(len(starts) - 1):
        for event in order[starts[row] : starts[row + 1]]:
            column = columns[event]
            pair = place[column]
            if pair < indptr[row]:
                pair = place[column] = end
                indices[pair] = column
                sums[pair] = 0
                events[pair] = 0
                ranked[pair] = False
                end += 1
            sums[pair] += millionths[event]
            events[pair] += 1
            ranked[pair] |= ranks[event]
        indptr[row + 1] = end
    return indptr, indices[:end], sums[:end], events[:end], ranked[:end]


def relabel(
    pairs: Pairs, columns: np.ndarray, n_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs whose producer has a column, by column, ascending in every row.

    columns: (n_producers,) int32 below n_columns, −1 for none. Returns indptr (n + 1,) int64,
    indices (kept,) int32, millionths (kept,) int64, and the number of events of each consumer,
    (n,) int32.
    """
    labels = columns[pairs.indices]
    kept = labels >= 0
    indptr = np.concatenate([[0], np.cumsum(row_sums(kept, pairs.indptr))])
    x = sp.csr_matrix(
        (pairs.millionths[kept], labels[kept], indptr), shape=(len(indptr) - 1, n_columns)
    )
    x.sort_indices()
    events = row_sums(kept * pairs.events, pairs.indptr)
    return indptr, x.indices.astype(np.int32, copy=False), x.data, events.astype(np.int32)


def row_sums(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """values: (nnz,) integers or bool, indptr: (n + 1,). Returns (n,) int64, 0 for empty rows."""
    # Not np.add.reduceat, which returns the next value instead of 0 for an empty row.
    running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.diff(running[indptr])
