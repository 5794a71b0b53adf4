"""Splits of an engagement matrix for evaluation: by pair, by activity, by fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Split:
    """A matrix split into three of the same shape: to fit, to tune and to evaluate."""

    train: sp.csr_matrix
    validation: sp.csr_matrix
    test: sp.csr_matrix

    @property
    def evaluated(self) -> np.ndarray:
        """Row numbers of the consumers with test pairs."""
        return np.flatnonzero(np.diff(self.test.indptr))


def split_by_consumer(
    x: sp.csr_matrix, seed: int, test: float = 0.2, validation: float = 0.1, min_pairs: int = 5
) -> Split:
    """Hold out a random share of every consumer's pairs, at least one each to test and to validate.

    x: (n, m). A consumer with fewer than `min_pairs` pairs keeps all of them in `train`.
    """
    lengths = np.diff(x.indptr)
    row = np.repeat(np.arange(x.shape[0]), lengths)
    order = np.lexsort((np.random.default_rng(seed).random(x.nnz), row))
    # The place of every pair in its consumer's shuffled order. The first places are held out.
    place = np.empty(x.nnz, np.int64)
    place[order] = np.arange(x.nnz) - np.repeat(x.indptr[:-1], lengths)

    def held_out(share: float) -> np.ndarray:
        """Pairs to hold out of each consumer, (n,)."""
        # At least one, because the rounded share of a short row would be zero.
        return np.where(lengths >= min_pairs, np.maximum(1, np.round(share * lengths)), 0)

    n_test = held_out(test)
    n_validation = held_out(validation)
    is_test = place < n_test[row]
    is_validation = ~is_test & (place < (n_test + n_validation)[row])
    return Split(
        train=_pairs(x, row, ~is_test & ~is_validation),
        validation=_pairs(x, row, is_validation),
        test=_pairs(x, row, is_test),
    )


def hold_out_pairs(
    x: sp.csr_matrix, share: float, seed: int | list[int]
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Hold out each pair with probability `share`, regardless of its consumer.

    Returns (kept, held out). Unlike in `split_by_consumer`, a consumer may lose all pairs or none.
    """
    held_out = np.random.default_rng(seed).random(x.nnz) < share
    row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    return _pairs(x, row, ~held_out), _pairs(x, row, held_out)


def _pairs(x: sp.csr_matrix, row: np.ndarray, keep: np.ndarray) -> sp.csr_matrix:
    """The chosen pairs in a matrix of the same shape. row: (nnz,), keep: (nnz,) bool."""
    return sp.csr_matrix((x.data[keep], (row[keep], x.indices[keep])), shape=x.shape)


def most_active(x: sp.csr_matrix, percent: float) -> np.ndarray:
    """(n,) bool: the `percent` % of the consumers with the most pairs, at least one consumer.

    Of consumers with equally many pairs, those in earlier rows are taken.
    """
    n_chosen = max(1, round(percent / 100 * x.shape[0]))
    by_activity = np.argsort(-np.diff(x.indptr), kind="stable")
    chosen = np.zeros(x.shape[0], dtype=bool)
    chosen[by_activity[:n_chosen]] = True
    return chosen


def fold_numbers(n: int, n_folds: int, seed: int) -> np.ndarray:
    """The fold of every consumer, (n,), 0 … n_folds − 1. Their sizes differ by at most one."""
    return np.random.default_rng(seed).permutation(n) % n_folds
