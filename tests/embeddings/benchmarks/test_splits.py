"""Splits lose no pair and share none, and their sizes are those worked out by hand."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from embeddings.benchmarks.splits import (
    fold_numbers,
    hold_out_pairs,
    most_active,
    split_by_consumer,
)

seeds = st.integers(0, 10_000)


def random_matrix(n: int, m: int, density: float, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, x.nnz).astype(np.float64)
    return x


@given(seeds)
def test_a_split_loses_nothing_and_shares_nothing(seed):
    x = random_matrix(40, 30, 0.3, seed)
    split = split_by_consumer(x, seed)
    assert abs(split.train + split.validation + split.test - x).max() < 1e-12
    assert split.train.nnz + split.validation.nnz + split.test.nnz == x.nnz


def test_how_many_pairs_are_held_out():
    """Of 20 pairs 4 test and 2 validate; of 5 one each; 4 are too few to hold any out."""
    x = sp.csr_matrix(np.array([[1.0] * 20, [1.0] * 5 + [0.0] * 15, [1.0] * 4 + [0.0] * 16]))
    split = split_by_consumer(x, 0)
    assert np.diff(split.train.indptr).tolist() == [14, 3, 4]
    assert np.diff(split.validation.indptr).tolist() == [2, 1, 0]
    assert np.diff(split.test.indptr).tolist() == [4, 1, 0]
    assert split.evaluated.tolist() == [0, 1]


def test_the_seed_decides_what_is_held_out():
    x = random_matrix(40, 30, 0.3, 0)
    assert (split_by_consumer(x, 0).test != split_by_consumer(x, 1).test).nnz > 0
    assert (split_by_consumer(x, 0).test != split_by_consumer(x, 0).test).nnz == 0


@given(seeds)
def test_held_out_pairs_are_a_random_share(seed):
    x = random_matrix(100, 60, 0.4, seed)
    kept, held_out = hold_out_pairs(x, 0.1, [seed, 1])
    assert abs(kept + held_out - x).max() < 1e-12
    assert kept.nnz + held_out.nnz == x.nnz
    assert 0.05 < held_out.nnz / x.nnz < 0.15


def test_the_most_active_consumers():
    """Pairs 1, 3, 2, 3: half of the four are the two with three."""
    x = sp.csr_matrix([[1.0, 0, 0], [1, 1, 1], [1, 1, 0], [2, 2, 2]])
    assert most_active(x, 50).tolist() == [False, True, False, True]
    assert most_active(x, 1).tolist() == [False, True, False, False]
    assert most_active(x, 100).all()


def test_folds_differ_by_one_consumer_at_most():
    fold = fold_numbers(103, 5, 0)
    assert sorted(np.bincount(fold).tolist()) == [20, 20, 21, 21, 21]
