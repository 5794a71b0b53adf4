"""The simulated world against what its parameters promise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simulation.small_world import SmallWorld, simulate

SMALL = SmallWorld(consumers=300, producers=100, topics=4, engagements=5.0)


def test_the_same_arguments_give_the_same_days():
    for one, other in zip(simulate(SMALL, 3, 7), simulate(SMALL, 3, 7), strict=True):
        np.testing.assert_array_equal(one.consumers, other.consumers)
        np.testing.assert_array_equal(one.producers, other.producers)
    assert not np.array_equal(
        next(simulate(SMALL, 1, 7)).producers[:50], next(simulate(SMALL, 1, 8)).producers[:50]
    )


def test_the_shares_that_are_replaced_are_those_of_the_world():
    """Over 100 days, 2 % of 300 consumers a day: 600 new ones ± 4 standard deviations."""
    world = SmallWorld(300, 100, 4, 1.0, new_consumers=0.02, new_producers=0.05)
    days = list(simulate(world, 101, 0))
    assert days[-1].ids.max() - 299 == pytest.approx(600, abs=4 * np.sqrt(600))
    seen = max(day.producers.max() for day in days)
    assert seen - 99 == pytest.approx(500, abs=4 * np.sqrt(500))


def test_who_is_replaced_has_a_new_id_for_good():
    world = SmallWorld(300, 100, 4, 1.0, new_consumers=0.1)
    days = list(simulate(world, 30, 0))
    alive = [set(day.ids.tolist()) for day in days]
    for before, after in pairwise(alive):
        new = after - before
        assert not new or min(new) > max(before)


def test_consumers_engage_with_what_they_like():
    """Mean affinity of the engagements, against that of the same producers at random."""
    world = SmallWorld(300, 100, 4, 20.0)
    day = next(simulate(world, 1, 0))
    rng = np.random.default_rng(0)
    # The topics of a producer, read back as the mean taste of those who engage with it.
    tastes = day.tastes[day.consumers]
    topics = np.array([tastes[day.producers == each].mean(axis=0) for each in range(100)])
    found = np.mean(np.sum(tastes * topics[day.producers], axis=1))
    shuffled = np.mean(np.sum(tastes * topics[rng.permutation(day.producers)], axis=1))
    assert found > shuffled + 0.2


def test_drift_moves_tastes_and_a_break_draws_them_anew():
    still, drifting, broken = (
        list(simulate(SmallWorld(300, 100, 4, 1.0, drift=drift, breaks=breaks), 11, 0))
        for drift, breaks in ((0.0, ()), (0.1, ()), (0.0, (5,)))
    )

    def kept(days, last):
        return np.corrcoef(days[0].tastes.ravel(), days[last].tastes.ravel())[0, 1]

    assert kept(still, 10) == 1
    assert kept(drifting, 10) == pytest.approx((1 - 0.1**2) ** 5, abs=0.05)
    assert kept(broken, 4) == 1
    assert kept(broken, 5) == pytest.approx(0, abs=0.12)
