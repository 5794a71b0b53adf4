"""The comparison of rankers: on small days, and its figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ranker_lake import DAYS, commit_days, commit_validated, ranker_settings
from typer.testing import CliRunner

from embeddings.benchmarks.auc import auc
from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.reports import ctr
from jobs.reports.scored import FIGURES, Scored, difference_rows, mean_aucs, summarised
from jobs.settings import RankerSettings, Settings
from jobs.steps.train import training_config
from models.training import fastest_precision


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# Next day


@pytest.fixture
def three_days(spark, tmp_path) -> Settings:
    """Settings of a log of two days, and of a third that is not trusted."""
    settings = ranker_settings(tmp_path / "home", kind="logistic")
    log = settings.source.path
    log.write_text("\n".join(log.read_text().splitlines()[:3]) + "\n")
    commit_days(settings, DAYS[:2], n=120)
    commit_validated(settings, DAYS[2], None)
    return settings


@pytest.mark.slow
def test_kinds_are_compared_on_the_next_days(three_days, tmp_path, capsys):
    """The one trusted day that follows another one is tested, although more are asked for."""
    report = ctr.run(three_days, None, ["logistic", "fm"], "fuxictr", 2, 5, tmp_path / "out")
    runs = rows_of(report.folder / "ctr-runs.csv")
    expected = []
    for kind in ("logistic", "fm"):
        expected += [(str(DAYS[1]), kind, "0"), (str(DAYS[1]), kind, "1")]
    assert [(row["test"], row["kind"], row["seed"]) for row in runs] == expected
    for row in runs:
        for name in ("auc", "gauc", "ndcg_5"):
            assert 0 < float(row[name]) < 1
    differences = rows_of(report.folder / "ctr-differences.csv")
    assert [(row["test"], row["kind"]) for row in differences] == [(str(DAYS[1]), "fm")]
    table = (report.folder / "ctr-edgelist.md").read_text().splitlines()
    assert table[0].startswith("| kind | AUC | log loss |")
    assert len({line.count("|") for line in table}) == 1
    assert {line.split("|")[1].strip() for line in table[2:]} == {"logistic", "fm"}
    assert (report.folder / "ctr-edgelist.png").exists()
    assert "frappe left out: no data folder is set" in capsys.readouterr().err


def test_an_unknown_kind_is_named_with_the_known_ones(tmp_path):
    settings = ranker_settings(tmp_path / "home")
    with pytest.raises(EvergreenError, match=r"no ranker dnm\. The kinds are: .*dnn"):
        ctr.run(settings, None, ["dnn", "dnm"], "fuxictr", 1, 1, tmp_path / "out")


def test_help_shows_a_runnable_example():
    shown = " ".join(CliRunner().invoke(app, ["experiment", "ctr", "--help"]).stdout.split())
    assert "Example: evergreen experiment ctr" in shown


@pytest.mark.parametrize(
    ("option", "expected"), [("float32", "float32"), ("auto", fastest_precision())]
)
def test_precision_and_compilation_reach_the_training(option, expected):
    cfg = training_config(RankerSettings(precision=option, compiled=True), seed=3)
    assert (cfg.precision, cfg.compiled, cfg.seed) == (expected, True, 3)


# Figures


def scored_days() -> list[Scored]:
    """Two days of 400 rows. `good` sees the labels through less noise than `bad`."""
    days = []
    for number in range(2):
        rng = np.random.default_rng(number)
        labels = rng.integers(0, 2, 400)
        scores: dict[str, list[np.ndarray]] = {"bad": [], "good": []}
        for _ in range(3):
            noise = rng.normal(size=400)
            scores["bad"].append(labels + 3 * noise)
            scores["good"].append(labels + noise)
        days.append(Scored("log", f"day {number}", rng.integers(0, 50, 400), labels, scores))
    return days


def test_a_difference_is_the_mean_over_seeds_and_days():
    """A better kind is better on every day, and the interval of all days is narrower."""
    days = scored_days()
    rows = difference_rows(days, "bad")
    assert [(row["test"], row["kind"]) for row in rows] == [
        ("day 0", "good"),
        ("day 1", "good"),
        ("all", "good"),
    ]
    expected = []
    for day in days:
        pairs = zip(day.scores["good"], day.scores["bad"], strict=True)
        expected.append(np.mean([auc(day.labels, g) - auc(day.labels, b) for g, b in pairs]))
    expected.append(np.mean(expected))
    widths = []
    for row, value in zip(rows, expected, strict=True):
        assert row["over bad"] == pytest.approx(value)
        assert 0 < row["over bad_low"] < value < row["over bad_high"]
        widths.append(row["over bad_high"] - row["over bad_low"])
    assert widths[2] < min(widths[:2])


def test_kinds_are_estimated_on_the_same_resamples():
    """A kind less its own copy is 0 in every draw."""
    days = scored_days()
    for day in days:
        day.scores["copy"] = day.scores["good"]
    estimates = mean_aucs(days)
    assert not (estimates["good"] - estimates["copy"]).draws.any()


def test_the_spread_is_that_of_the_seeds_and_not_of_the_days():
    """Two days that differ by 0.2, and seeds that agree but for 0.02: their deviation is 0.014."""
    runs = []
    for day, level in (("1", 0.6), ("2", 0.8)):
        for seed in range(2):
            figures = dict.fromkeys(FIGURES, level + 0.02 * seed)
            runs.append({"data": "log", "test": day, "kind": "dnn", "seed": seed, **figures})
    (row,) = summarised(runs)
    assert row["auc"] == pytest.approx(0.71)
    assert row["auc_std"] == pytest.approx(0.02 / np.sqrt(2))
