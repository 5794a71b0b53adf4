"""Frappe, by all recipes, on small files in its layout."""

from __future__ import annotations

import gzip
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranker_lake import ranker_settings
from test_ctr import rows_of

from embeddings.benchmarks.auc import auc
from jobs.errors import EvergreenError
from jobs.reports import ctr, frappe
from jobs.reports.frappe_own import FrappeCounts, FrappeRedrawn, bucket
from jobs.reports.public_trials import public_trials
from jobs.reports.recipe import (
    FUXICTR,
    day_of,
    decaying_trainer,
    follow,
    one_epoch,
    train_with_validation,
)
from jobs.settings import RankerSettings
from models.rankers.base import build, read_options
from models.training import TrainingConfig, predict, reproducible


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
    report = ctr.run(
        settings, folder, ["heavy_ranker", "logistic"], "fuxictr", 1, 0, tmp_path / "out"
    )
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
    one_epoch(trainer, rows, rate=1.0, average=deepcopy(model), share=1.0)
    # Adam's first step has the size of the learning rate, whatever that of the gradient.
    torch.testing.assert_close(model.fields.table.weight[-1].detach(), torch.full((10,), 0.999))


def test_an_average_follows_the_weights_and_the_batch_norms():
    """A quarter of each step's, by hand; with a share of 1 it is the model."""
    torch.manual_seed(0)
    model = build("qnn", frappe.SPEC, read_options("qnn", {"field_width": 2}))
    average, copied = deepcopy(model), deepcopy(model)
    for value in (1.0, 2.0):
        for weights in model.state_dict().values():
            weights.fill_(value)
        follow(average, model, share=0.25)
        follow(copied, model, share=1.0)
    norm = average.quadratic[0].norm
    assert norm.running_mean.tolist() == [0.75 * 0.25 + 0.25 * 2] * len(norm.running_mean)
    assert norm.running_var.tolist() == [0.75 * 1 + 0.25 * 2] * len(norm.running_var)
    for weights in copied.parameters():
        assert (weights == 2).all()


def test_a_missing_file_leaves_frappe_out(folder, tmp_path):
    settings = ranker_settings(tmp_path / "home")
    (trial,), messages = public_trials(settings, folder, [frappe.Frappe])
    assert (len(trial.labels), messages) == (200, [])
    trials, (message,) = public_trials(settings, tmp_path, [frappe.Frappe])
    assert trials == []
    assert f"{tmp_path} has no {frappe.POSITIVES}" in message
    assert "--data or EVERGREEN_DATA" in message


# Recipes of our own


def test_uses_are_counted_by_hand_and_a_positive_does_not_count_itself(folder):
    """In all three files, in the column behind the ten fields."""
    trial = FrappeCounts(folder, RankerSettings())
    uses = Counter(frappe.pairs(trial.positives).tolist())
    rows = trial.training_rows(np.random.default_rng(0))
    for day, own in ((rows, 1), (trial.validation, 0), (trial.tested, 0)):
        expected = []
        for pair, label in zip(frappe.pairs(day.categories), day.labels[:, 0], strict=True):
            expected.append(uses[pair] - own * label)
        assert max(expected) > min(expected)
        np.testing.assert_array_equal(day.categories[:, -1], bucket(np.array(expected)))


def test_buckets_of_counts():
    counts = np.array([0, 1, 2, 3, 4, 7, 8, 63, 64, 10**9])
    assert bucket(counts).tolist() == [0, 1, 2, 2, 3, 3, 4, 6, 7, 7]


def test_every_epoch_has_negatives_of_its_own(folder):
    """The positives stay."""
    trial = FrappeRedrawn(folder, RankerSettings())
    epochs = trial.epochs(np.random.default_rng(0))
    first, second = next(epochs), next(epochs)
    for label, same in ((1, True), (0, False)):
        of_label = []
        for day in (first, second):
            of_label.append(np.unique(day.categories[day.labels[:, 0] == label], axis=0))
        assert np.array_equal(*of_label) == same


def test_the_published_recipe_keeps_its_negatives(folder):
    epochs = frappe.Frappe(folder, RankerSettings()).epochs(np.random.default_rng(0))
    first, second = (np.unique(next(epochs).categories, axis=0) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_negatives_do_not_know_what_is_tested(folder, monkeypatch):
    """A tested pair that is in no positive to train on can be drawn as a negative."""
    trial = FrappeRedrawn(folder, RankerSettings())
    monkeypatch.setitem(frappe.FIELDS, "item", 20)  # from now on each is drawn often
    tested = frappe.pairs(trial.tested.categories[trial.labels > 0])
    unknown = set(tested.tolist()) - set(frappe.pairs(trial.positives).tolist())
    rows = trial.training_rows(np.random.default_rng(0))
    drawn = set(frappe.pairs(rows.categories[rows.labels[:, 0] == 0]).tolist())
    assert unknown
    assert unknown & drawn


def test_calibrated_scores_have_the_rate_of_the_validation_rows(folder, monkeypatch):
    """A shift of the largest likelihood makes the mean score the rate; the order stays."""
    plain = replace(FUXICTR, batch_size=64, learning_rate=1e-2, epochs=2)
    trial = frappe.Frappe(folder, RankerSettings())
    trial.tested = trial.validation
    scores = []
    for calibrated in (False, True):
        recipe = replace(plain, calibrated=calibrated)
        monkeypatch.setattr(frappe.Frappe, "recipe", recipe)
        scores.append(trial.fit("logistic", seed=0).scores)
    assert abs(scores[0].mean() - 0.5) > 0.01
    assert scores[1].mean() == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_array_equal(np.argsort(scores[0]), np.argsort(scores[1]))


def test_an_unknown_recipe_is_named_with_the_known_ones(tmp_path):
    settings = ranker_settings(tmp_path / "home")
    with pytest.raises(EvergreenError, match=r"no recipe own\. The recipes are: fuxictr, redrawn"):
        ctr.run(settings, None, ["dnn"], "own", 1, 0, tmp_path / "out")
