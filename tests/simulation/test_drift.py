"""Every dial does what it says, and nothing else; with all of them at zero the world is still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.chance import bits, key, normals, uniforms
from simulation.drift import STILL, Drift, Turnover, rates, wandering, wandering_together
from simulation.emails import emails
from simulation.items import topic_popularity
from simulation.people import Consumers, consumers, producers
from simulation.text import meanings, occupants
from simulation.world import World

IDS = np.arange(20_000)
SMALL = World(consumers=2000, producers=400, topics=8)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_random_bits_are_those_of_splitmix64():
    """With Python's own integers, which have no width."""
    mask = 2**64 - 1

    def mixed(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    expected = []
    for number in (0, 5, -1):
        state = key(4, "name")
        for each in (number, 7):
            state = mixed(((state ^ (each & mask)) + 0x9E3779B97F4A7C15) & mask)
        expected.append(state)
    assert bits(4, "name", np.array([0, 5, -1]), 7).tolist() == expected


def test_uniform_numbers_are_uniform_and_those_of_other_names_independent():
    """Kolmogorov and Smirnov: the largest distance is below 1.95 / √n in 999 of 1000 draws."""
    one, other = uniforms(3, "one", IDS), uniforms(3, "other", IDS)
    distance = np.abs(np.sort(one) - np.arange(len(IDS)) / len(IDS)).max()
    assert distance < 1.95 / np.sqrt(len(IDS))
    assert abs(correlation(one, other)) < 4 / np.sqrt(len(IDS))


@pytest.mark.parametrize("day", [0, 40, 3000])
def test_what_wanders_is_standard_normal_on_every_day(day):
    x = wandering(1, "taste", IDS, 4, 0.05, day)
    assert np.abs(x.mean(axis=0)).max() < 4 / np.sqrt(len(IDS))
    np.testing.assert_allclose(np.cov(x.T), np.eye(4), atol=0.06)
    assert np.mean(x**4) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(("rate", "days"), [(0.02, 7), (0.02, 30), (0.3, 2)])
def test_the_correlation_after_some_days_is_that_of_the_rate(rate, days):
    before = wandering(1, "taste", IDS, 4, rate, 100)
    after = wandering(1, "taste", IDS, 4, rate, 100 + days)
    assert correlation(before, after) == pytest.approx(np.exp(-rate * days), abs=0.02)


def test_what_wanders_together_wanders_at_the_rate_too():
    dim = 4000
    before, after = (wandering_together(1, "topics", dim, 0.05, day) for day in (3, 13))
    assert before.var() == pytest.approx(1, abs=0.1)
    assert correlation(before, after) == pytest.approx(np.exp(-0.5), abs=0.08)


def test_the_share_of_a_day_leaves_and_the_first_day_of_each_is_known():
    """The day of birth against a slow loop over all days."""
    turnover = Turnover.of(5, "people", IDS, 0.02)
    born = np.zeros(len(IDS), np.int64)
    replaced = []
    for day in range(1, 31):
        new = turnover.generation(day) != turnover.generation(day - 1)
        born[new] = day
        replaced.append(new.mean())
    assert np.mean(replaced) == pytest.approx(0.02, abs=0.001)
    np.testing.assert_array_equal(turnover.born(30), born)


def test_who_has_left_never_returns():
    world = replace(SMALL, drift=Drift(consumers=0.1))
    seen: set[int] = set()
    before: set[int] = set()
    for day in range(30):
        now = set(consumers(world, day).ids.tolist())
        assert len(now) == world.consumers
        assert not (now - before) & seen
        seen |= now
        before = now


def things(world: World, day: int) -> dict[str, np.ndarray]:
    """For each dial, what it turns, as it is on a day."""
    crowd = Consumers(world, day, np.arange(500), np.zeros(500, np.int64))
    everyone = producers(world, day)
    first = everyone.ids < world.producers
    subjects = np.where(first[:, None], everyone.subjects, np.nan)
    return {
        "topics": topic_popularity(world, day),
        "tastes": crowd.tastes(),
        "subjects": subjects,
        "consumers": consumers(world, day).ids,
        "producers": everyone.ids,
        "words": occupants(world, day, "hashtag", 30, 1.0),
        "meanings": meanings(world, day),
    }


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Do they, where both are known?"""
    return bool(np.any((one != other) & ~np.isnan(one) & ~np.isnan(other)))


@pytest.mark.parametrize("dial", [*rates(), None])
def test_a_dial_turns_its_own_thing_alone(dial):
    drift = replace(STILL, **{dial: 0.1}) if dial else STILL
    world = replace(SMALL, drift=drift)
    before, after = things(world, 2), things(world, 22)
    assert [name for name in before if differ(before[name], after[name])] == [dial] * bool(dial)


def test_a_shock_turns_tastes_subjects_and_topics_on_its_day():
    world = replace(SMALL, drift=replace(STILL, shocks=(5,)))
    days = {day: things(world, day) for day in (0, 4, 5, 9)}
    for name in ("tastes", "subjects", "topics"):
        np.testing.assert_array_equal(days[0][name], days[4][name])
        np.testing.assert_array_equal(days[5][name], days[9][name])
        assert differ(days[4][name], days[5][name])
    assert correlation(days[4]["tastes"], days[5]["tastes"]) == pytest.approx(0, abs=0.07)
    for name in ("consumers", "producers", "words", "meanings"):
        np.testing.assert_array_equal(days[0][name], days[9][name])


def test_the_scale_of_all_dials():
    assert Drift(shocks=(3,)).scaled(0) == replace(STILL, shocks=(3,))
    assert Drift(tastes=0.1).scaled(3).tastes == pytest.approx(0.3)


@pytest.mark.parametrize(("dial", "value"), [("tastes", -0.1), ("words", 0.6), ("topics", 11)])
def test_an_impossible_rate_is_named(dial, value):
    with pytest.raises(ValueError, match=f"{dial} is {value}; expected a rate from 0"):
        Drift(**{dial: value})


def test_random_normal_numbers_are_independent_within_a_row():
    x = normals(0, "x", IDS, 6)
    np.testing.assert_allclose(np.corrcoef(x.T), np.eye(6), atol=0.03)


def test_campaigns_of_other_days_are_others():
    assert not set(emails(SMALL, 1).campaigns) & set(emails(SMALL, 2).campaigns)
