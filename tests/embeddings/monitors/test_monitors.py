"""Covariate shift: figures by hand, false alarms by chance, and shocks of simulated worlds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embeddings.monitors.alarms import alarms, alarms_of, folded
from embeddings.monitors.divergence import histogram, jensen_shannon, psi, quantile_edges
from embeddings.monitors.overlap import new_share, overlap, top
from simulation.drift import STILL
from simulation.engagements import KINDS, impressions
from simulation.items import catalog
from simulation.world import World

DAYS, SHOCK = 20, 12
WORLD = World(consumers=1500, producers=200, impressions=3.0, drift=STILL)


def test_overlap_by_hand():
    tokens = np.array(["a", "b", "c", "d"])
    now = top(tokens, np.array([5, 1, 5, 4]), 3)
    assert now.tolist() == ["a", "c", "d"]
    assert overlap(now, np.array(["d", "e", "a"])) == pytest.approx(2 / 3)
    assert np.isnan(overlap(np.array([]), now))
    assert new_share(np.array([1, 2, 2, 9]), np.array([2])) == 0.5


def test_divergences_by_hand():
    before, now = np.array([49.5, 49.5]), np.array([79.5, 19.5])  # 0.5 is added to each
    assert psi(before, now) == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4))
    assert psi(before, before) == 0
    assert jensen_shannon(np.array([3, 0]), np.array([0, 9])) == pytest.approx(1)
    assert jensen_shannon(np.array([2, 2]), np.array([8, 8])) == 0
    half = jensen_shannon(np.array([1, 0]), np.array([1, 1]))
    assert half == pytest.approx(-0.75 * np.log2(0.75) - 0.25 * np.log2(0.25) - 0.5)
    for each in (psi, jensen_shannon):
        assert np.isnan(each(np.zeros(2), now))


def test_every_value_is_in_one_bin_and_the_bins_are_about_equal():
    values = np.append(np.arange(100.0), [np.nan, np.inf])
    counts = histogram(values, quantile_edges(values, 5))
    assert counts.tolist() == [20, 20, 20, 20, 20, 2]
    same = np.full(10, 7.0)
    assert histogram(same, quantile_edges(same)).sum() == 10
    assert histogram(np.array([np.nan]), quantile_edges(np.array([np.nan]))).tolist() == [0, 1]


def test_a_value_that_counts_often_is_one_that_is_repeated():
    """Numbers of profiles count as often as their consumers have events; to the bit."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.choice([-1.5, 0.1, 0.2, 0.7, np.nan, np.inf, 3.0], 12)
        times = rng.integers(0, 5, 12)
        repeated = np.repeat(values, times)
        edges = quantile_edges(values, times=times)
        finite = repeated[np.isfinite(repeated)]
        if len(finite):
            expected = np.unique(np.quantile(finite, np.arange(1, 10) / 10))
            np.testing.assert_array_equal(edges, expected)
        assert histogram(values, edges, times).tolist() == histogram(repeated, edges).tolist()


def test_rare_columns_are_counted_together():
    days = np.array([[1, 5, 0, 2], [1, 5, 1, 3]])
    assert folded(days, 2).tolist() == [[5, 2, 1], [5, 3, 2]]
    assert folded(days, 4) is days


@pytest.mark.parametrize("bins", [2, 5, 30])
def test_chance_is_an_alarm_about_as_often_as_the_level_says(bins):
    """At 1 %, on 200 logs of 25 days of other lengths; many bins are judged more mildly."""
    rng = np.random.default_rng(bins)
    judged = found = 0
    for _ in range(200):
        rows = rng.integers(1000, 5000, 25)
        days = rng.multinomial(rows, rng.dirichlet(np.full(bins, 5.0)))
        found += len(alarms_of("x", days, 14, 5, 0.01))
        judged += 25 - 6
    assert found / judged < 0.025
    assert found / judged > 0.004 or bins > 5


def test_what_has_changed_is_an_alarm_once_and_then_usual():
    rng = np.random.default_rng(0)
    shares = np.array([[0.5, 0.3, 0.2]] * 12 + [[0.3, 0.5, 0.2]] * 12)
    found = alarms({"x": rng.multinomial(2000, shares)})
    assert [(alarm.day, alarm.series) for alarm in found] == [(12, "x")]
    assert found[0].times > 10


def test_days_without_rows_are_passed_over():
    days = np.array([[0, 0], [5, 5], [0, 0], *[[50, 50]] * 10, [0, 0], [90, 10]])
    assert [alarm.day for alarm in alarms({"x": days})] == [14]


def series(world: World, days: int) -> dict[str, np.ndarray]:
    """Topics, producers, hours, surfaces and labels of a simulated log."""
    found: dict[str, list[np.ndarray]] = {}
    for day in range(days):
        shown, known = impressions(world, day), catalog(world, day)
        order = np.argsort(known.ids)
        topics = known.topics[order[np.searchsorted(known.ids[order], shown.items)]]
        counted = {
            "topic": (topics, world.topics),
            "producer": (shown.producers % world.producers, world.producers),
            "hour": (shown.times_ms // 3_600_000, 24),
            "surface": (shown.surfaces, 2),
        }
        for number, kind in enumerate(KINDS):
            counted[kind] = (shown.labels[:, number], 2)
        for name, (values, bins) in counted.items():
            found.setdefault(name, []).append(np.bincount(values, minlength=bins))
    return {name: folded(np.array(counts), 20) for name, counts in found.items()}


@pytest.mark.parametrize("worlds", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_still_worlds_are_quiet_and_a_shock_is_found_on_its_day(worlds):
    quiet = on_its_day = 0
    for seed in range(worlds):
        world = replace(WORLD, seed=seed)
        quiet += not alarms(series(world, DAYS))
        shaken = replace(world, drift=replace(STILL, shocks=(SHOCK,)))
        found = {alarm.day for alarm in alarms(series(shaken, SHOCK + 1))}
        on_its_day += found == {SHOCK}
    assert quiet >= 0.95 * worlds
    assert on_its_day >= 0.95 * worlds
