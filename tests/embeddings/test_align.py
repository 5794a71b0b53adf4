"""Coordinates of two versions made one, and how near they then lie, each checked by another road."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from embeddings.align import (
    canonical_axes,
    mean_cosine,
    neighbour_overlap,
    procrustes,
    relative_residual,
)

seeds = st.integers(0, 10_000)


def turn(k: int, rng: np.random.Generator) -> np.ndarray:
    """Any orthogonal matrix, reflections too."""
    return np.linalg.qr(rng.normal(size=(k, k)))[0]


# Procrustes


@given(seeds)
def test_procrustes_undoes_any_rotation(seed):
    rng = np.random.default_rng(seed)
    anchor = rng.normal(size=(30, 5))
    turned = anchor @ turn(5, rng)
    rotation = procrustes(turned, anchor)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(turned @ rotation, anchor, atol=1e-8)


@given(seeds)
def test_procrustes_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    vectors, anchor = rng.normal(size=(2, 40, 6))
    np.testing.assert_allclose(
        procrustes(vectors, anchor), orthogonal_procrustes(vectors, anchor)[0], atol=1e-9
    )


def test_no_other_rotation_comes_nearer():
    """Optimality, by trying: small further turns only make the residual larger."""
    rng = np.random.default_rng(3)
    vectors, anchor = rng.normal(size=(40, 4)), rng.normal(size=(40, 4))
    best = np.linalg.norm(vectors @ procrustes(vectors, anchor) - anchor)
    for _ in range(50):
        skew = rng.normal(size=(4, 4)) * 0.1
        further = np.linalg.qr(np.eye(4) + skew - skew.T)[0]
        assert (
            np.linalg.norm(vectors @ procrustes(vectors, anchor) @ further - anchor) >= best - 1e-9
        )


@given(seeds)
def test_a_weight_of_three_is_the_row_three_times(seed):
    """And a weight of zero is a row that is not there."""
    rng = np.random.default_rng(seed)
    vectors, anchor = rng.normal(size=(2, 20, 4))
    times = rng.integers(0, 4, 20)
    repeated = procrustes(np.repeat(vectors, times, axis=0), np.repeat(anchor, times, axis=0))
    np.testing.assert_allclose(procrustes(vectors, anchor, times), repeated, atol=1e-9)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"Shapes \(3, 2\) and \(3, 4\) differ"):
        procrustes(np.ones((3, 2)), np.ones((3, 4)))


# Canonical axes


@given(seeds)
def test_a_rotated_version_ends_on_the_same_axes(seed):
    """So the anchor does not depend on the solver or its seed."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, 4)) * [4, 3, 2, 1] + rng.exponential(size=(60, 4))
    turned = vectors @ turn(4, rng)
    np.testing.assert_allclose(
        vectors @ canonical_axes(vectors), turned @ canonical_axes(turned), atol=1e-7
    )


@given(seeds)
def test_canonical_axes_are_the_svds(seed):
    """vectors = U S Wᵀ: the axes are W up to sign, the lengths along them S, descending, and no product is changed."""
    vectors = np.random.default_rng(seed).normal(size=(30, 5))
    axes = canonical_axes(vectors)
    placed = vectors @ axes
    _, lengths, wt = np.linalg.svd(vectors)
    np.testing.assert_allclose(np.abs(wt @ axes), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=0), lengths, rtol=1e-9)
    np.testing.assert_allclose(placed @ placed.T, vectors @ vectors.T, atol=1e-10)
    assert (np.sum(placed**3, axis=0) > 0).all()


# How near


def test_mean_cosine_passes_over_zero_vectors():
    assert mean_cosine(np.array([[1.0, 0], [0, 0]]), np.array([[2.0, 0], [1, 1]])) == pytest.approx(
        1.0
    )


def test_mean_cosine_by_hand():
    """Angles of 60° and 180°: (1/2 − 1) / 2."""
    a, b = np.array([[1.0, 0], [0, 3]]), np.array([[1.0, np.sqrt(3)], [0, -1]])
    assert mean_cosine(a, b) == pytest.approx(-0.25)
    assert mean_cosine(a, np.zeros((2, 2))) == 0.0


def test_relative_residual_by_hand():
    """‖(3, 4) − (0, 5)‖ / ‖(0, 5)‖ = √10 / 5."""
    assert relative_residual(np.array([[3.0, 4.0]]), np.array([[0.0, 5.0]])) == pytest.approx(
        np.sqrt(10) / 5
    )


def slow_overlap(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """One entity after the other, as sets."""

    def nearest(v: np.ndarray, i: int) -> set[int]:
        cosine = [
            -np.inf if j == i else v[i] @ v[j] / np.linalg.norm(v[i]) / np.linalg.norm(v[j])
            for j in range(len(v))
        ]
        return set(np.argsort(cosine)[-k:].tolist())

    return float(np.mean([len(nearest(a, i) & nearest(b, i)) / k for i in range(len(a))]))


@given(seeds, st.integers(1, 6))
def test_neighbour_overlap_against_a_slow_loop(seed, k):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(25, 4))
    b = a + 0.5 * rng.normal(size=(25, 4))
    assert neighbour_overlap(a, b, k) == pytest.approx(
        slow_overlap(a, b, k), abs=1 / (25 * k) + 1e-9
    )


def test_neighbour_overlap_is_one_after_a_rotation_and_chance_for_strangers():
    """Of 400 entities, 10 drawn blindly hit 10 of 399."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 5))
    assert neighbour_overlap(a, 3 * a @ turn(5, rng)) == 1.0
    assert neighbour_overlap(a, b) == pytest.approx(10 / 399, abs=0.01)


def test_equal_vectors_are_all_the_nearest():
    """Thirty producers with the same one consumer have no order among them."""
    a = np.repeat(np.eye(3), 30, axis=0)
    assert (
        neighbour_overlap(a, a[:, ::-1] + 1e-8 * np.random.default_rng(0).normal(size=a.shape))
        == 1.0
    )


def test_a_sample_is_asked_against_everybody():
    """Every fifth of 1,000, near to the whole; entities without a vector are left out."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(1000, 4))
    b = a + 0.3 * rng.normal(size=a.shape)
    whole = neighbour_overlap(a, b)
    assert neighbour_overlap(a, b, most=200) == pytest.approx(whole, abs=0.03)
    unknown = np.zeros((500, 4))
    assert neighbour_overlap(np.vstack([a, unknown]), np.vstack([b, unknown + 1])) == whole


@pytest.mark.parametrize("n", [0, 1])
def test_nobody_to_compare_with_is_no_overlap(n):
    assert neighbour_overlap(np.ones((n, 3)), np.ones((n, 3))) == 0.0
