"""The truth that decay curves are compared with, and the count of intervals that hold it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs.reports.decay import coverage
from jobs.reports.decay.retrieval import EQUAL, STALE, Trial
from jobs.settings import EmbeddingSettings, MLflowSettings, Settings
from simulation.drift import STANDING, STILL, Drift
from simulation.engagements import KINDS, impressions
from simulation.people import consumers, producers
from simulation.world import World

WORLD = World(consumers=120, producers=60, topics=4, impressions=8.0, drift=STILL)
LAST = coverage.WINDOW + coverage.OLDEST + coverage.TESTS - 1


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    source = {"kind": "edgelist", "path": "edges.csv", "fields": ["src", "dst", "time"]}
    return Settings(
        home=tmp_path_factory.mktemp("coverage"),
        source=source,
        embedding=EmbeddingSettings(dim=4),
        mlflow=MLflowSettings(uri="off"),
    )


@pytest.fixture(scope="module")
def learned(settings) -> tuple[Trial, dict]:
    trial, fits = coverage.learned(settings, WORLD)
    return trial, coverage.contenders_of(trial, fits)


def test_the_days_of_a_world_are_its_clicks():
    log = coverage.log_of(WORLD, 3)
    ids = coverage.Ids.of(WORLD, 3)
    shown = impressions(WORLD, 2)
    clicks = np.zeros(ids.shape)
    for consumer, producer, labels in zip(
        shown.consumers, shown.producers, shown.labels, strict=True
    ):
        row, column = (
            np.searchsorted(ids.consumers, consumer),
            np.searchsorted(ids.producers, producer),
        )
        clicks[row, column] += labels[KINDS.index("click")]
    np.testing.assert_array_equal(log.days[2].strengths.toarray(), clicks)


def test_first_producers_have_the_ndcg_that_the_decay_curve_has(learned):
    """Two roads to the figure of the tested day: the report's ranking, and the first producers."""
    trial, contenders = learned
    users = trial.users[LAST]
    engaged = trial.log.days[LAST].strengths[users].toarray() > 0
    for key in ((STALE, 0), (STALE, 7), (EQUAL, 3)):
        values = coverage.ndcg(contenders[LAST][key][users], engaged)
        np.testing.assert_allclose(values, trial.values["ndcg"].sums[key][LAST], atol=1e-6)


def test_what_is_certain_is_expected(learned):
    """With the day's own engagements as certainties every draw is that day."""
    trial, contenders = learned
    chances = {LAST: (trial.log.days[LAST].strengths.toarray() > 0).astype(np.float32)}
    found = coverage.expected_ndcg(chances, {LAST: contenders[LAST]}, 2, seed=0)
    day = trial.values["ndcg"].sums[STALE, 7][LAST].mean()
    assert found[STALE, 7] == pytest.approx(day, abs=1e-6)


def test_chances_are_those_of_a_click_and_of_nobody_who_is_not_there():
    """Against the share of worlds, equal but for what is drawn, in which somebody clicks."""
    moving = replace(WORLD, drift=replace(STILL, consumers=0.3, producers=0.3))
    ids = coverage.Ids.of(moving, 5)
    chances = coverage.chances_of(moving, 4, ids)
    here = np.isin(ids.consumers, consumers(moving, 4).ids)
    there = np.isin(ids.producers, producers(moving, 4).ids)
    assert 0 < here.sum() < len(here)
    assert not chances[~here].any()
    assert not chances[:, ~there].any()
    day = coverage.log_of(moving, 5).days[4].strengths
    expected, spread = chances.sum(), np.sqrt((chances * (1 - chances)).sum())
    assert abs(day.nnz - expected) < 4 * spread


def test_intervals_that_hold_the_truth_are_counted():
    def row(loss: str, age: int, low: float, high: float, truth: float) -> dict:
        ends = {"lost": (low + high) / 2, "lost_low": low, "lost_high": high}
        return {"drift": "× 1", "loss": loss, "age": age, **ends, "truth": truth}

    rows = []
    for loss in coverage.LOSSES:
        for age in coverage.SHOWN:
            rows.append(row(loss, age, 0.1, 0.3, 0.2))
            rows.append(row(loss, age, -0.1, 0.1, 0.2 if age == 7 else 0.1))
    held = {(one["loss"], one["age"]): one for one in coverage.coverage(rows)}
    assert held["all", 1]["hold the truth"] == 1
    assert held["all", 7]["hold the truth"] == 0.5
    assert held["by ageing", 7]["hold zero"] == 0.5
    # Of two, one: the ends are those where one or more, or one or fewer, have 2.5 %.
    ends = [held["all", 7][f"hold the truth_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([1 - 0.975**0.5, 0.975**0.5], abs=1e-6)
    assert held["by ageing", 3]["lost"] == pytest.approx(0.1)
    assert held["by ageing", 3]["truth"] == pytest.approx(0.15)


def test_the_report_has_a_row_of_every_world(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "WORLD", WORLD)
    monkeypatch.setattr(coverage, "DRIFTS", {"still": STANDING, "× 1": Drift()})
    monkeypatch.setattr(coverage, "DRAWS", 3)
    report = coverage.run(settings, 1, tmp_path)
    lines = (report.folder / "decay-coverage-worlds.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(coverage.LOSSES) * len(coverage.SHOWN)
    assert report.picture("intervals").stat().st_size > 10_000
