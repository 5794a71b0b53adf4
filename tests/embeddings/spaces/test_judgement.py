"""Chance, judged by formula, against drawing it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from spaces import day_of, world

from embeddings.spaces.judgement import RELATED, STABLE, judge, rank_correlations
from embeddings.spaces.reference import first_reference, pairs
from embeddings.spaces.rotation import Pairs, Rotations


def shared(a, b) -> Pairs:
    return pairs(a, first_reference(b))


def test_chance_and_deviation_are_those_of_many_random_pairings():
    truth = world(0, 6)
    found = shared(day_of(truth, 1, noise=2.0), day_of(truth, 2, noise=2.0))
    rotations = Rotations.of(found)
    judgement = judge(found, rotations)
    rng = np.random.default_rng(0)
    placed = []
    for group in found:
        rotation = rotations.left[group.fold] @ rotations.right[group.fold].T
        placed.append((group.day @ rotation, group.reference))
    n = sum(map(len, found))
    drawn = []
    for _ in range(4000):
        drawn.append(sum(np.sum(a * rng.permutation(b)) for a, b in placed) / n)
    assert judgement.cosine == pytest.approx(sum(np.sum(a * b) for a, b in placed) / n, abs=1e-6)
    assert judgement.chance == pytest.approx(np.mean(drawn), abs=0.002)
    by_drawing = (judgement.cosine - np.mean(drawn)) / np.std(drawn)
    assert judgement.deviation == pytest.approx(by_drawing, rel=0.05)


def test_unrelated_days_are_not_beyond_chance_however_many_directions_can_be_fitted():
    """In-sample, a rotation in 32 directions makes 120 unrelated pairs look alike."""
    deviations = []
    for seed in range(60):
        found = shared(day_of(world(seed, 32), 1), day_of(world(seed + 1000, 32), 2))
        deviations.append(judge(found, Rotations.of(found)).deviation)
    assert max(deviations) < RELATED
    assert np.mean(deviations) == pytest.approx(0, abs=0.5)
    assert np.std(deviations) < 1.6
    rotation = Rotations.of(found).whole
    in_sample = sum(np.sum((group.day @ rotation) * group.reference) for group in found)
    assert in_sample / sum(map(len, found)) > 0.3


@pytest.mark.parametrize(("true", "noise"), [(8, 0), (8, 8), (3, 21)])
def test_the_stable_rank_is_the_number_of_directions_that_are_not_noise(true, noise):
    truth = world(5, true, n=1500)
    days = [day_of(truth, seed, noise_directions=noise) for seed in (1, 2)]
    found = shared(*days)
    judgement = judge(found, Rotations.of(found))
    assert judgement.stable.sum() == true
    assert judgement.stable[:true].all()
    assert judgement.beyond_chance


def test_a_few_entities_far_away_are_no_stable_direction():
    """A lone island dominates a direction, and Pearson's correlation would call it stable."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 1)) * 0.01
    a[:2], b[:2] = 1.0, 1.0
    assert np.corrcoef(a[:, 0], b[:, 0])[0, 1] > 0.9
    assert rank_correlations(a, b)[0] * np.sqrt(199) < STABLE


def test_rank_correlations_are_spearmans():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, size=(2, 40, 3)).astype(float)
    expected = [spearmanr(a[:, j], b[:, j]).statistic for j in range(3)]
    np.testing.assert_allclose(rank_correlations(a, b), expected, atol=1e-12)
    assert rank_correlations(np.ones((5, 1)), np.arange(5.0)[:, None])[0] == 0


def test_two_pairs_are_judged_without_an_error():
    day = {side: entities.chosen(np.arange(1)) for side, entities in day_of(world(0, 4), 1).items()}
    found = shared(day, day)
    assert not judge(found, Rotations.of(found)).beyond_chance
