"""Checkpoints: which files a training goes on from, and to which weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.checkpoint import Checkpoint
from models.features import Categorical, Day, FeatureSpec
from models.rankers.base import read_options
from models.training import Trained, Trainer, TrainingConfig, train

SPEC = FeatureSpec((Categorical("hash_item", 20, "item"),), ("num_x",), ("label_click",), 3)
STEPS = 20
OPTIONS = {
    "deepfm": {"dropout": 0.2},  # then the random state matters too
    "heavy_ranker": {"aggregation": 8, "block_width": 8, "hidden": 8, "tower": (4, 2)},
}


class Killed(BaseException):
    pass


def day() -> Day:
    rng = np.random.default_rng(0)
    n = 32 * STEPS
    return Day(
        name="day",
        space="s",
        categories=rng.integers(0, 20, (n, 1)),
        numbers=rng.normal(size=(n, 1)).astype(np.float32),
        labels=rng.integers(0, 2, (n, 1)).astype(np.float32),
        consumer_rows=rng.integers(-1, 5, n),
        producer_rows=rng.integers(-1, 5, n),
        consumer_vectors=rng.normal(size=(5, 3)).astype(np.float32),
        producer_vectors=rng.normal(size=(5, 3)).astype(np.float32),
    )


def fit(kind: str, saved: Checkpoint | None, killed_at: int = -1) -> Trained:
    """One pass; after `killed_at` rows it ends."""

    def progress(name: str, done: int, rows: int, loss: float) -> None:
        if done == killed_at:
            raise Killed

    options = read_options(kind, OPTIONS.get(kind, {}))
    cfg = TrainingConfig(batch_size=32, learning_rate=1e-2)
    return train([day()], SPEC, kind, options, cfg, progress, saved)


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """A number for every step that is taken; files are replaced after every third."""
    taken: list[int] = []
    plain = Trainer.step

    def step(self: Trainer, *arguments) -> Tensor:
        taken.append(len(taken))
        return plain(self, *arguments)

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    return taken


@pytest.mark.parametrize("kind", ["deepfm", "heavy_ranker", "masknet"])
def test_a_training_that_goes_on_gives_the_same_weights(tmp_path, steps, kind):
    """With whole and row-wise optimizers, dropout, and running means of batches."""
    expected = fit(kind, None)
    saved = Checkpoint(tmp_path / "folder" / "file.pt", "this")
    with pytest.raises(Killed):
        fit(kind, saved, killed_at=32 * 11)
    steps.clear()
    torch.manual_seed(7)  # the state of whoever calls is no part of the training
    found = fit(kind, saved)
    assert len(steps) == STEPS - 9
    np.testing.assert_array_equal(found.losses, expected.losses)
    for name, weights in expected.model.state_dict().items():
        np.testing.assert_array_equal(found.model.state_dict()[name].numpy(), weights.numpy())


def damage(path: Path, saved: Checkpoint) -> Checkpoint:
    path.write_bytes(path.read_bytes()[:-100])
    return saved


def empty(path: Path, saved: Checkpoint) -> Checkpoint:
    path.write_bytes(b"")
    return saved


def of_another(path: Path, saved: Checkpoint) -> Checkpoint:
    return replace(saved, identity="other")


def part_of(path: Path) -> Path:
    """The only one: those of earlier steps are deleted."""
    (part,) = path.parent.glob("*.part")
    return part


def lose_the_tables(path: Path, saved: Checkpoint) -> Checkpoint:
    part_of(path).unlink()
    return saved


def damage_the_tables(path: Path, saved: Checkpoint) -> Checkpoint:
    return damage(part_of(path), saved)


def take_tables_of_another(path: Path, saved: Checkpoint) -> Checkpoint:
    """As where another training was killed between its tables and its file."""
    part = part_of(path)
    torch.save({**torch.load(part), "identity": "other"}, part)
    return saved


@pytest.mark.parametrize(
    "change",
    [damage, empty, of_another, lose_the_tables, damage_the_tables, take_tables_of_another],
)
def test_a_file_that_does_not_fit_counts_as_none(tmp_path, steps, change):
    """One that is cut short, or that belongs to another training; and so with its tables."""
    saved = Checkpoint(tmp_path / "file.pt", "this")
    with pytest.raises(Killed):
        fit("logistic", saved, killed_at=32 * 11)
    steps.clear()
    fit("logistic", change(saved.path, saved))
    assert len(steps) == STEPS
