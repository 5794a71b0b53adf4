"""The comparison of rankers: on small days, on small files in Frappe's layout, and its figures."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranker_lake import DAYS, commit_days, commit_validated, ranker_settings
from typer.testing import CliRunner

from embeddings.benchmarks.auc import auc
from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.reports import ctr, frappe
from jobs.reports.public_trials import public_trials
from jobs.reports.recipe import (
    FUXICTR,
    day_of,
    decaying_trainer,
    one_epoch,
    train_with_validation,
)
from jobs.reports.scored import FIGURES, Scored, difference_rows, mean_aucs, summarised
from jobs.settings import RankerSettings, Settings
from jobs.steps.train import training_config
from models.rankers.base import build, read_options
from models.training import TrainingConfig, fastest_precision, predict, reproducible


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
    report = ctr.run(three_days, None, ["logistic", "fm"], 2, 5, tmp_path / "out")
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
        ctr.run(settings, None, ["dnn", "dnm"], 1, 1, tmp_path / "out")


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


# Frappe


def libfm(path: Path, table: np.ndarray, labels: np.ndarray) -> None:
    """Write rows in the layout of the published files."""
    sizes = list(frappe.FIELDS.values())
    lines = []
    for row, label in zip(table, labels, strict=True):
        numbers = row + np.cumsum([0, *sizes[:-1]])
        lines.append(" ".join([str(label), *[f"{number}:1" for number in numbers]]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def random_rows(n: int, seed: int) -> np.ndarray:
    """(n, 10): even users use apps 0 to 9, odd ones apps 10 to 19."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 2, (n, len(frappe.FIELDS)))
    table[:, frappe.USER] = rng.integers(0, 20, n)
    table[:, frappe.ITEM] = rng.integers(0, 10, n) + 10 * (table[:, frappe.USER] % 2)
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three small files; half of the rows to validate and to test have an app of nobody."""
    folder = tmp_path_factory.mktemp("data")
    libfm(folder / frappe.POSITIVES, random_rows(300, 0), np.ones(300, int))
    for seed, file in ((1, frappe.VALIDATION), (2, frappe.TEST)):
        table = random_rows(200, seed)
        table[::2, frappe.ITEM] += 500
        libfm(folder / file, table, np.where(np.arange(200) % 2, 1, -1))
    return folder


def test_the_layout_of_frappe_is_read_back(folder):
    categories, labels = frappe.read_libfm(folder / frappe.POSITIVES)
    np.testing.assert_array_equal(categories, random_rows(300, 0))
    assert labels.tolist() == [1] * 300
    assert frappe.read_libfm(folder / frappe.TEST)[1][:4].tolist() == [0, 1, 0, 1]


def test_a_negative_keeps_all_but_an_app_that_the_user_never_used(folder):
    """Two for each positive, also where the user has used half of all apps, and in every file."""
    trial = frappe.Frappe(folder, RankerSettings())
    heavy = np.zeros((frappe.FIELDS["item"] // 2, len(frappe.FIELDS)), dtype=np.int64)
    heavy[:, frappe.USER] = 21
    heavy[:, frappe.ITEM] = np.arange(len(heavy))
    trial.positives = np.concatenate([trial.positives, heavy])
    used = trial.used()
    table, labels = frappe.with_negatives(trial.positives, used, np.random.default_rng(0))
    n = len(trial.positives)
    assert labels.tolist() == [1] * n + [0] * 2 * n
    np.testing.assert_array_equal(table[:n], trial.positives)
    negatives = table[n:]
    others = np.delete(negatives, frappe.ITEM, axis=1)
    np.testing.assert_array_equal(
        others, np.repeat(np.delete(trial.positives, frappe.ITEM, axis=1), 2, axis=0)
    )
    pairs = set(zip(*negatives[:, [frappe.USER, frappe.ITEM]].T.tolist(), strict=True))
    for positives in (trial.positives, random_rows(200, 1)[1::2], random_rows(200, 2)[1::2]):
        used_pairs = positives[:, [frappe.USER, frappe.ITEM]].T.tolist()
        assert not pairs & set(zip(*used_pairs, strict=True))


def test_the_weights_of_the_best_epoch_are_tested(folder):
    """Selected on the validation rows: their AUC is the best one, and it stopped two after it."""
    trial = frappe.Frappe(folder, RankerSettings())
    epochs = trial.epochs(np.random.default_rng(0))
    with reproducible(seed=0, threads=1):
        model = build("fm", frappe.SPEC, trial.options("fm"))
        cfg = TrainingConfig(batch_size=64, learning_rate=1e-2)
        course = train_with_validation(model, epochs, trial.validation, cfg, FUXICTR)
    scores = predict(model, trial.validation, space="")
    assert float(auc(trial.validation.labels[:, 0], scores[:, 0])) == max(course.aucs) > 0.8
    assert len(course.aucs) == int(np.argmax(course.aucs)) + 1 + FUXICTR.patience


def test_frappe_alone_is_measured_without_a_day_of_the_log(folder, monkeypatch, tmp_path):
    """Nothing of the log is read; the ranker that needs numbers is left out."""
    quick = replace(FUXICTR, batch_size=64, learning_rate=1e-2)
    monkeypatch.setattr(frappe.Frappe, "recipe", quick)
    settings = ranker_settings(tmp_path / "home")
    report = ctr.run(settings, folder, ["heavy_ranker", "logistic"], 1, 0, tmp_path / "out")
    (row,) = rows_of(report.folder / "ctr-kinds.csv")
    assert (row["data"], row["kind"], row["tests"]) == ("frappe", "logistic", "1")
    assert float(row["auc"]) > 0.8
    assert {file.name for file in report.folder.glob("ctr-frappe.*")} == {
        "ctr-frappe.md",
        "ctr-frappe.png",
    }
    assert not (settings.home / "lake").exists()


def test_embeddings_decay_also_where_they_are_not_read():
    """The gradient has L2 of the embedding itself: a row of ones that no example reads shrinks."""
    torch.manual_seed(0)
    model = build("dnn", frappe.SPEC, read_options("dnn", {"field_width": 10}))
    with torch.no_grad():
        model.fields.table.weight[-1] = 1
    trainer = decaying_trainer(model, TrainingConfig(32, 1e-3), l2=0.1)
    rows = day_of("rows", random_rows(32, 0), np.ones(32, np.float32))
    one_epoch(trainer, rows, rate=1.0)
    # Adam's first step has the size of the learning rate, whatever that of the gradient.
    torch.testing.assert_close(model.fields.table.weight[-1].detach(), torch.full((10,), 0.999))


def test_a_missing_file_leaves_frappe_out(folder, tmp_path):
    settings = ranker_settings(tmp_path / "home")
    (trial,), messages = public_trials(settings, folder, [frappe.Frappe])
    assert (len(trial.labels), messages) == (200, [])
    trials, (message,) = public_trials(settings, tmp_path, [frappe.Frappe])
    assert trials == []
    assert f"{tmp_path} has no {frappe.POSITIVES}" in message
    assert "--data or EVERGREEN_DATA" in message
