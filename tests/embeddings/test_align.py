"""Alignment of two versions and measures of their similarity, each checked in a second way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.align import (
    canonical_axes,
    mean_cosine,
    neighbour_overlap,
    procrustes,
    relative_residual,
)

seeds = st.integers(0, 10_000)


def orthogonal(k: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix, which may include a reflection."""
    return np.linalg.qr(rng.normal(size=(k, k)))[0]


# Procrustes


@given(seeds)
def test_procrustes_undoes_any_rotation(seed):
    rng = np.random.default_rng(seed)
    anchor = rng.normal(size=(30, 5))
    rotated = anchor @ orthogonal(5, rng)
    rotation = procrustes(rotated, anchor)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(rotated @ rotation, anchor, atol=1e-8)


@given(seeds)
def test_procrustes_is_the_closed_form(seed):
    """R = W Zᵀ of the SVD vectorsᵀ anchor = W S Zᵀ, in float64 even for float32 vectors."""
    vectors, anchor = np.random.default_rng(seed).normal(size=(2, 40, 6)).astype(np.float32)
    w, _, zt = np.linalg.svd(vectors.T.astype(np.float64) @ anchor.astype(np.float64))
    np.testing.assert_allclose(procrustes(vectors, anchor), w @ zt, atol=1e-12)


def test_no_other_rotation_comes_closer():
    """Optimality, by trial: a small further rotation only increases the residual."""
    rng = np.random.default_rng(3)
    vectors, anchor = rng.normal(size=(2, 40, 4))
    rotation = procrustes(vectors, anchor)
    best = np.linalg.norm(vectors @ rotation - anchor)
    for _ in range(50):
        skew = rng.normal(size=(4, 4)) * 0.1
        further = np.linalg.qr(np.eye(4) + skew - skew.T)[0]
        assert np.linalg.norm(vectors @ rotation @ further - anchor) >= best - 1e-9


def test_a_nan_is_an_error():
    with pytest.raises(ValueError, match="infs or NaNs"):
        procrustes(np.full((3, 2), np.nan), np.ones((3, 2)))


def test_different_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"Shapes \(3, 2\) and \(3, 4\) differ"):
        procrustes(np.ones((3, 2)), np.ones((3, 4)))


# Canonical axes


@given(seeds)
def test_a_rotated_version_ends_on_the_same_axes(seed):
    """So the anchor does not depend on the solver or its seed."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, 4)) * [4, 3, 2, 1] + rng.exponential(size=(60, 4))
    rotated = vectors @ orthogonal(4, rng)
    expected = vectors @ canonical_axes(vectors)
    np.testing.assert_allclose(rotated @ canonical_axes(rotated), expected, atol=1e-7)


@given(seeds)
def test_canonical_axes_are_those_of_the_svd(seed):
    """vectors = U S Wᵀ: the axes are W up to sign, the lengths along them S, descending.

    No dot product changes.
    """
    vectors = np.random.default_rng(seed).normal(size=(30, 5))
    axes = canonical_axes(vectors)
    placed = vectors @ axes
    _, lengths, wt = np.linalg.svd(vectors)
    np.testing.assert_allclose(np.abs(wt @ axes), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=0), lengths, rtol=1e-9)
    np.testing.assert_allclose(placed @ placed.T, vectors @ vectors.T, atol=1e-10)
    assert (np.sum(placed**3, axis=0) > 0).all()


# Similarity


def test_mean_cosine_skips_zero_vectors():
    a = np.array([[1.0, 0], [0, 0]])
    b = np.array([[2.0, 0], [1, 1]])
    assert mean_cosine(a, b) == pytest.approx(1.0)


def test_mean_cosine_by_hand():
    """Angles of 60° and 180°: (1/2 − 1) / 2."""
    a = np.array([[1.0, 0], [0, 3]])
    b = np.array([[1.0, np.sqrt(3)], [0, -1]])
    assert mean_cosine(a, b) == pytest.approx(-0.25)
    assert mean_cosine(a, np.zeros((2, 2))) == 0.0


def test_relative_residual_by_hand():
    """‖(3, 4) − (0, 5)‖ / ‖(0, 5)‖ = √10 / 5."""
    residual = relative_residual(np.array([[3.0, 4.0]]), np.array([[0.0, 5.0]]))
    assert residual == pytest.approx(np.sqrt(10) / 5)


def slow_overlap(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """One entity after the other, with sets."""

    def nearest(v: np.ndarray, i: int) -> set[int]:
        cosines = np.empty(len(v))
        for j in range(len(v)):
            cosines[j] = v[i] @ v[j] / np.linalg.norm(v[i]) / np.linalg.norm(v[j])
        cosines[i] = -np.inf
        return set(np.argsort(cosines)[-k:].tolist())

    overlaps = [len(nearest(a, i) & nearest(b, i)) / k for i in range(len(a))]
    return float(np.mean(overlaps))


@given(seeds, st.integers(1, 6))
def test_neighbour_overlap_against_a_slow_loop(seed, k):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(25, 4))
    b = a + 0.5 * rng.normal(size=(25, 4))
    one_neighbour = 1 / (25 * k)  # rounding may decide between two that are equally near
    expected = pytest.approx(slow_overlap(a, b, k), abs=one_neighbour + 1e-9)
    assert neighbour_overlap(a, b, k) == expected


def test_neighbour_overlap_is_one_after_a_rotation_and_chance_for_unrelated_vectors():
    """Of 400 entities, 10 drawn at random hit 10 of 399."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 5))
    assert neighbour_overlap(a, 3 * a @ orthogonal(5, rng)) == 1.0
    assert neighbour_overlap(a, b) == pytest.approx(10 / 399, abs=0.01)


def test_equal_vectors_all_count_as_nearest():
    """Thirty producers with the same single consumer have equal vectors, which have no order."""
    a = np.repeat(np.eye(3), 30, axis=0)
    noise = 1e-8 * np.random.default_rng(0).normal(size=a.shape)
    assert neighbour_overlap(a, a[:, ::-1] + noise) == 1.0


def test_a_sample_is_close_to_the_overlap_of_all():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(1000, 4))
    b = a + 0.3 * rng.normal(size=a.shape)
    of_all = neighbour_overlap(a, b)
    assert neighbour_overlap(a, b, most=200) == pytest.approx(of_all, abs=0.03)


def test_entities_without_a_vector_are_left_out_of_the_overlap():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(1000, 4))
    b = a + 0.3 * rng.normal(size=a.shape)
    zeros = np.zeros((500, 4))
    padded = neighbour_overlap(np.vstack([a, zeros]), np.vstack([b, zeros + 1]))
    assert padded == neighbour_overlap(a, b)


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_second_entity_the_overlap_is_zero(n):
    assert neighbour_overlap(np.ones((n, 3)), np.ones((n, 3))) == 0.0
