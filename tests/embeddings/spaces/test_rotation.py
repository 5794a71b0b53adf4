"""Rotations of versions, each checked in a second way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from spaces import orthogonal, seeds

from embeddings.spaces.reference import Entities, first_reference, pairs
from embeddings.spaces.rotation import FOLDS, Rotations, canonical_axes, procrustes

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
    """So a space does not depend on the solver or its seed."""
    rng = np.random.default_rng(seed)
    consumers = rng.normal(size=(60, 4)) * [4, 3, 2, 1]
    producers = rng.normal(size=(50, 4)) * [4, 3, 2, 1] + rng.exponential(size=(50, 4))
    rotation = orthogonal(4, rng)
    axes = canonical_axes(consumers, producers)
    other = rotation @ canonical_axes(consumers @ rotation, producers @ rotation)
    np.testing.assert_allclose(other, axes, atol=1e-7)


@given(seeds)
def test_canonical_axes_are_the_singular_directions_of_the_product(seed):
    """Of U√Σ and V√Σ in any coordinates: the first p columns are its best rank-p approximation."""
    rng = np.random.default_rng(seed)
    lengths = np.sqrt([8.0, 5.0, 3.0, 1.0])
    u, v = orthogonal(30, rng)[:, :4] * lengths, orthogonal(20, rng)[:, :4] * lengths
    rotation = orthogonal(4, rng)
    axes = rotation @ canonical_axes(u @ rotation, v @ rotation)
    np.testing.assert_allclose(np.abs(axes), np.eye(4), atol=1e-7)
    assert (np.sum((v @ axes) ** 3, axis=0) > 0).all()


def test_the_scale_of_a_side_does_not_move_the_axes():
    """(aU)(V/a)ᵀ is the same product."""
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(2, 40, 4)) * [4, 3, 2, 1]
    np.testing.assert_allclose(canonical_axes(30 * u, v / 30), canonical_axes(u, v), atol=1e-12)


# Rotations to a reference


@given(seeds)
def test_the_rotation_maximises_the_weighted_cosines(seed):
    """As Procrustes does for rows of equal length that are scaled by the root of their weight."""
    rng = np.random.default_rng(seed)
    shared = random_pairs(rng)
    day, reference = (
        np.concatenate([getattr(group, name) * np.sqrt(group.weights)[:, None] for group in shared])
        for name in ("day", "reference")
    )
    np.testing.assert_allclose(Rotations.of(shared).whole, procrustes(day, reference), atol=1e-5)


@settings(max_examples=15)  # each takes ten rotations
@given(seeds)
def test_no_entity_has_a_part_in_the_rotation_that_judges_it(seed):
    """What its own fold holds makes no difference to it."""
    rng = np.random.default_rng(seed)
    shared = random_pairs(rng)
    vectors = rng.normal(size=(30, 4)).astype(np.float32)
    before = Rotations.of(shared)
    for fold in range(FOLDS):
        other = []
        for group in shared:
            spoiled = group.day[::-1] * np.float32([1, -1, 1, -1])
            other.append(replace(group, day=spoiled) if group.fold == fold else group)
        folds = np.full(30, fold)
        expected = before.held_out(vectors, folds)
        np.testing.assert_array_equal(Rotations.of(other).held_out(vectors, folds), expected)


def random_pairs(rng: np.random.Generator):
    """Forty consumers and thirty producers that a day shares with a reference."""
    sides = []
    for _ in range(2):
        side = {}
        for name, n in (("consumer", 40), ("producer", 30)):
            ids = np.array([b"%04d" % i for i in range(n)])
            side[name] = Entities.of_day(ids, rng.normal(size=(n, 4)), rng.integers(1, 9, n))
        sides.append(side)
    return pairs(sides[0], first_reference(sides[1]))
