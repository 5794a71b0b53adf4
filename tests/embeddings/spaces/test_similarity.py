"""Measures of similarity, each checked in a second way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import orthogonal, seeds

from embeddings.spaces.similarity import mean_cosine, neighbour_overlap


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
