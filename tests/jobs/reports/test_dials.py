"""Along each dial, the measured number is near the true one and moves with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from jobs.reports.dials import measures
from jobs.reports.dials import run as dials
from jobs.reports.dials.measures import DAY, MONTH, Dial, Pair
from jobs.settings import MLflowSettings, Settings
from simulation.drift import STILL, Drift, rates
from simulation.engagements import impressions
from simulation.people import consumers
from simulation.world import World

SMALL = World(consumers=300, producers=120, topics=4, impressions=5.0)
# Dial -> how far the measured number may be from the true one in the small world.
CLOSE = {"topics": 0.02, "consumers": 0.05, "producers": 0.08, "words": 0.25}


@pytest.fixture
def settings(tmp_path) -> Settings:
    source = {"kind": "edgelist", "path": "edges.csv", "fields": ["src", "dst", "time"]}
    return Settings(home=tmp_path / "home", source=source, mlflow=MLflowSettings(uri="off"))


def test_every_dial_of_the_world_is_measured():
    assert [dial.name for dial in measures.DIALS] == rates()


@pytest.mark.parametrize("dial", [dial for dial in measures.DIALS if dial.name in CLOSE])
def test_a_number_is_near_the_true_one_and_moves_with_it(dial, settings):
    sized = replace(SMALL, producers=600) if dial.name == "words" else SMALL
    small = replace(dial, world=sized)
    still, fast = (dials.measured(settings, small, level, 0) for level in (0, 4))
    for row in (still, fast):
        assert row["measured"] == pytest.approx(row["true"], abs=CLOSE[dial.name])
    less, more = (fast, still) if dial.name == "words" else (still, fast)
    assert less["true"] < more["true"]
    assert less["measured"] < more["measured"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tastes", "subjects", "meanings"])
def test_what_takes_longer_moves_with_the_truth_as_well(name, settings):
    dial = next(dial for dial in measures.DIALS if dial.name == name)
    still, fast = (dials.measured(settings, dial, level, 0) for level in (0, 4))
    assert fast["true"] > still["true"]
    assert fast["measured"] > still["measured"]
    assert still["measured"] == pytest.approx(0, abs=0.01)


def test_new_consumers_are_as_many_as_a_slow_count_and_as_expected():
    """The expectation against the mean over worlds that differ in what is drawn."""
    found, true = [], []
    for seed in range(3):
        world = replace(SMALL, seed=seed, drift=replace(STILL, consumers=0.02))
        pair = measures.new_consumers(None, world)
        before = set()
        for day in range(DAY - MONTH, DAY):
            before |= set(impressions(world, day).consumers.tolist())
        now = set(impressions(world, DAY).consumers.tolist())
        assert pair.measured == len(now - before) / len(now)
        assert now <= set(consumers(world, DAY).ids.tolist())
        found.append(pair.measured)
        true.append(pair.true)
    assert np.mean(found) == pytest.approx(np.mean(true), abs=0.03)


def test_topics_are_those_of_the_items_that_were_shown():
    world = replace(SMALL, drift=Drift())
    shown = measures.topics_shown(world, 3)
    for_you = impressions(world, 3).surfaces == measures.FOR_YOU
    assert shown.sum() == for_you.sum()
    expected = measures.topics_expected(world, 3)
    spread = np.sqrt(shown.sum()) / shown.sum()
    np.testing.assert_allclose(shown / shown.sum(), expected / expected.sum(), atol=3 * spread)


def test_a_shock_raises_an_alarm_on_its_day():
    still, shock = dials.shock_rows(0)
    assert still["on the day"] == still["other days"] == 0
    assert (shock["on the day"], shock["other days"]) == (1, 0)


def test_the_report_has_a_row_of_every_world_and_a_picture(settings, tmp_path, monkeypatch):
    def pair(settings, world):
        return Pair(world.drift.topics + world.seed, world.drift.topics)

    monkeypatch.setattr(dials, "DIALS", (Dial("topics", "a number", pair, SMALL),))
    monkeypatch.setattr(dials, "shock_rows", lambda seed: [{"world": "still", "seed": seed}])
    report = dials.run(settings, 2, tmp_path / "out")
    worlds = pd.read_csv(report.folder / "dials-worlds.csv")
    assert worlds["rate"].tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4])
    means = pd.read_csv(report.folder / "dials-means.csv")
    assert means["off by"].tolist() == pytest.approx([0.5] * 4)
    assert report.picture("measured").stat().st_size > 10_000
