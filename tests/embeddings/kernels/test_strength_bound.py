"""The largest strength of a pair, and what one huge value does to the vectors of everybody else."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.embedders.svd import factorize
from embeddings.kernels.normalize import normalize, smoothed
from embeddings.kernels.strength_bound import UNBOUNDED, largest_strength, strength_counts

RATIO = 50.0  # the default of matrix.max_strength_ratio
MILLION = 1_000_000
STRENGTHS = st.lists(st.integers(0, 2**62) | st.integers(0, 3000), min_size=2, max_size=300)


def bound(strengths: list[int], ratio: float = RATIO) -> int:
    return largest_strength(strength_counts(np.array(strengths, np.int64)), ratio)


@given(STRENGTHS)
def test_it_is_a_multiple_of_the_strength_that_a_hundredth_exceeds(strengths):
    """By sorting all of them, to three digits."""
    exceed = max(1, ceil(0.01 * len(strengths)))
    usual = sorted(strengths)[-exceed - 1]
    rounded = int(str(usual)[:3].ljust(len(str(usual)), "0"))
    assert bound(strengths) == pytest.approx(min(RATIO * rounded, UNBOUNDED), rel=1e-9, abs=1)


@given(STRENGTHS, st.integers(0, 300))
def test_the_counts_of_parts_add_up(strengths, cut):
    first, second = strengths[:cut], strengths[cut:]
    counts = [strength_counts(np.array(part, np.int64)) for part in (first, second)]
    assert largest_strength(counts[0] + counts[1], RATIO) == bound(strengths)


@given(STRENGTHS, st.integers(1, 12))
def test_the_size_of_the_largest_changes_nothing(strengths, power):
    *others, largest = sorted(strengths)
    assert bound([*others, largest * 10 ** min(power, 18 - len(str(largest)))]) == bound(strengths)


@pytest.mark.parametrize(("strengths", "ratio"), [([], RATIO), ([7], RATIO), ([1, 7], 0.0)])
def test_without_others_or_a_ratio_there_is_no_bound(strengths, ratio):
    assert bound(strengths, ratio) == UNBOUNDED


# --- what it is for


def grouped_log(seed: int) -> np.ndarray:
    """Strengths (60, 36): three groups of consumers, each with twelve producers."""
    rng = np.random.default_rng(seed)
    own = np.equal.outer(np.arange(60) % 3, np.arange(36) % 3)
    return rng.poisson(np.where(own, 0.8, 0.05)) * rng.choice([1.0, 2.0, 5.0], (60, 36))


def producer_cosines(x: np.ndarray, k: int) -> np.ndarray:
    """By the bounded, smoothed SVD as the steps `matrix` and `embed` compute it."""
    matrix = sp.csr_matrix(x)
    millionths = (matrix.data * MILLION).astype(np.int64)
    matrix.data = np.minimum(millionths, bound(millionths)) / MILLION
    sums, row_extra = smoothed(np.asarray(matrix.sum(axis=0)).ravel(), len(x), 1.0)
    vectors = factorize(normalize(matrix, sums, row_extra), k).producers
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, 1e-12)
    return unit @ unit.T


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 59), st.integers(0, 35), st.integers(1, 12))
def test_one_huge_value_leaves_the_neighbours_of_all_others(seed, consumer, producer, power):
    """Every other producer stays close to those of its own group, and to no others."""
    x = grouped_log(seed)
    x[consumer, producer] = 10.0**power
    same_group = np.equal.outer(np.arange(36) % 3, np.arange(36) % 3)
    others = np.delete(np.arange(36), producer)
    cosines = producer_cosines(x, k=4)[np.ix_(others, others)]
    mine = same_group[np.ix_(others, others)]
    assert cosines[mine].mean() > 0.8
    assert abs(cosines[~mine]).mean() < 0.35
    np.fill_diagonal(cosines, -1)
    assert mine[np.arange(35), cosines.argmax(axis=1)].mean() > 0.9
