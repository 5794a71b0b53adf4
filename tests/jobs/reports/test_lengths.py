"""The experiment about lengths: what is judged, what is kept, and what is written."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from embeddings.benchmarks.intervals import Estimate
from embeddings.lengths import autoencoder, matryoshka
from embeddings.lengths.base import names, reducer
from jobs.reports.lengths import run
from jobs.reports.lengths.run import Measured, kept, measure, shortened
from jobs.reports.report import Report
from jobs.reports.tables.columns import TABLE_1
from jobs.reports.tables.methods import OnTheSeam
from jobs.reports.tables.problem import Problem
from jobs.reports.tables.world import simulated_problem
from jobs.settings import load_settings
from simulation.world import World

RETRIEVAL = tuple(column for column in TABLE_1 if column.name in ("retrieval", "engaged"))


@pytest.fixture(scope="module")
def world() -> Problem:
    return simulated_problem(World(consumers=200, producers=60, topics=4, impressions=6.0), 4)


@pytest.fixture(autouse=True, scope="module")
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        for trained in (autoencoder, matryoshka):
            patch.setattr(trained, "STEPS", 4)
        yield


@pytest.fixture(scope="module")
def measured(world) -> Measured:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "COLUMNS", RETRIEVAL)
        return measure(world, "svd", 12, (6, 3), 2, lambda line: None)


def test_every_way_and_length_is_judged(measured):
    ways = {(name, length) for name in names() for length in (6, 3)}
    for figures in measured.figures.values():
        assert figures.keys() == {("random", 12), ("whole", 12), *ways}
    assert measured.seconds.keys() == {("whole", 12), *ways}


def test_trained_reducers_are_trained_once_for_each_seed(world):
    long = OnTheSeam("svd", {}, 12)(world.input, 0)
    first, second = shortened(world, long, "autoencoder", (3,), range(2))[3]
    assert not np.array_equal(first.consumers, second.consumers)
    encoder = reducer("autoencoder").fit(
        long.consumers[long.consumers.any(axis=1)],
        long.producers[long.producers.any(axis=1)],
        (3,),
        1,
    )
    np.testing.assert_array_equal(second.producers, encoder.encode(long.producers, 3))


def test_shorter_vectors_rank_by_the_same_factors_as_whole_ones(world):
    """An SVD's products are times the root of the producer's sum, at every length."""
    long = OnTheSeam("svd", {}, 12)(world.input, 0)
    (short,) = shortened(world, long, "first_columns", (5,), range(1))[5]
    (row,) = np.flatnonzero(long.consumers.any(axis=1))[:1]
    products = long.producers[:, :5] @ long.consumers[row, :5]
    np.testing.assert_allclose(short.scores(np.array([row]))[0], products * long.scales, rtol=1e-4)


def test_what_is_kept_is_a_share_of_the_gain_on_random_vectors():
    """By hand: of .1 to .5, .4 keeps three quarters, and is .15 more than the first columns."""

    def estimate(value: float) -> Estimate:
        return Estimate.from_draws(value, np.full(20, value))

    figures = {
        ("random", 9): estimate(0.1),
        ("whole", 9): estimate(0.5),
        ("first_columns", 3): estimate(0.25),
        ("pca", 3): estimate(0.4),
        ("pca", 2): estimate(0.3),
    }
    columns, pca = kept(Measured("it", "svd", 9, {"retrieval": figures}), 3)
    assert columns["kept"] == pytest.approx(0.375)
    assert "gain" not in columns
    assert (pca["method"], pca["kept"], pca["gain"]) == (
        "pca",
        pytest.approx(0.75),
        pytest.approx(0.15),
    )


def test_tables_pages_and_pictures_are_written(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "COLUMNS", RETRIEVAL)
    monkeypatch.setattr(run, "JUDGED", 3)
    run.write(Report(load_settings(), "lengths", 0, tmp_path), [measured])
    with (tmp_path / "lengths-methods.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["length"] for row in rows if row["method"] == "pca"] == ["6", "3"]
    content = json.loads((tmp_path / "lengths-kept.json").read_text())
    assert {row["length"] for row in content["rows"]} == {3}
    assert "| matryoshka 3 |" in (tmp_path / "lengths.md").read_text()
    assert (tmp_path / "lengths-simulated-svd.png").stat().st_size > 10_000
