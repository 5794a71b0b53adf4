"""Going on from the model of the day before: what is kept, what is new, and what is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_group import together

from embeddings.registry.errors import SpaceMismatch
from models import checkpoint, processes
from models.admission import Seen
from models.checkpoint import Checkpoint
from models.features import Categorical, Day, FeatureSpec
from models.rankers.base import read_options
from models.start import Start
from models.store import load, save
from models.training import Trained, TrainingConfig, predict, train

SPEC = FeatureSpec(
    (Categorical("hash_item", 20, "item"), Categorical("hash_user", 9, "user")),
    ("num_x",),
    ("label_click",),
    3,
)
KINDS = {"masknet": {"block_width": 8, "hidden": (8,)}, "wide_deep": {"hidden": (8,)}}
BATCH = 32
N = 10 * BATCH + 1


class Killed(Exception):
    pass


def day(name: str, items: list[int], seed: int = 0) -> Day:
    """Rows of these items; clicks follow the number and the item."""
    rng = np.random.default_rng(seed)
    item = rng.choice(items, N)
    x = rng.normal(size=(N, 1)).astype(np.float32)
    clicks = rng.random(N) < 1 / (1 + np.exp(-x[:, 0] - 2 * (item % 2)))
    return Day(
        name=name,
        space="s",
        categories=np.stack([item, rng.integers(0, 9, N)], axis=1),
        numbers=x,
        labels=clicks[:, None].astype(np.float32),
        consumer_rows=rng.integers(-1, 5, N),
        producer_rows=rng.integers(-1, 5, N),
        consumer_vectors=rng.normal(size=(5, 3)).astype(np.float32),
        producer_vectors=rng.normal(size=(5, 3)).astype(np.float32),
    )


FIRST = day("2024-01-01", [0, 1, 2, 3, 4, 5])
SECOND = day("2024-01-02", [2, 3, 4, 5, 6, 7], seed=1)


def fit(
    kind: str,
    read: Day,
    start: Start | None = None,
    saved: Checkpoint | None = None,
    until: int = N,
    **config: Any,
) -> Trained:
    def progress(name: str, done: int, rows: int, loss: float) -> None:
        if done >= until < N:
            raise Killed

    options = read_options(kind, KINDS[kind])
    cfg = TrainingConfig(batch_size=BATCH, **({"learning_rate": 1e-2, "admit_after": 1} | config))
    return train([read], SPEC, kind, options, cfg, progress, saved, start)


def begun(trained: Trained, evict_after_days: float = 9) -> Start:
    seen = trained.admitted.seen if trained.admitted else None
    return Start(trained.model, trained.space, 1, seen, evict_after_days)


def rows_like(read: Day, item: int) -> Day:
    """The same rows, all of this item."""
    categories = read.categories.copy()
    categories[:, 0] = item
    return replace(read, categories=categories)


def scores(trained: Trained, read: Day) -> np.ndarray:
    return predict(trained.model, read, "s")[:, 0]


@pytest.mark.parametrize("admit_after", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_without_anything_new_at_rate_zero_it_is_the_same_model(kind, admit_after):
    first = fit(kind, FIRST, admit_after=admit_after)
    again = fit(kind, FIRST, begun(first), learning_rate=0, admit_after=admit_after)
    expected, found = (trained.model.state_dict() for trained in (first, again))
    for name, weights in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), weights.numpy(), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_keeps_its_vector_where_others_come_and_go(kind):
    """At rate zero: kept items keep their scores, new and evicted ones have the shared one."""
    first = fit(kind, FIRST)
    second = fit(kind, SECOND, begun(first, evict_after_days=1), learning_rate=0)
    assert second.admitted.changes == {"kept": 4 + 9, "admitted": 2, "evicted": 2}
    # The scales of the numbers are the new day's.
    for name in ("mean_N", "std_N"):
        for old, new in zip(named(first, name), named(second, name), strict=True):
            old.copy_(new)
    for item in (2, 3, 4, 5):
        rows = rows_like(SECOND, item)
        np.testing.assert_array_equal(scores(second, rows), scores(first, rows))
    shared = scores(first, rows_like(SECOND, 19))
    for item in (0, 1, 6, 7, 12):
        np.testing.assert_array_equal(scores(second, rows_like(SECOND, item)), shared)


def named(trained: Trained, leaf: str) -> list[torch.Tensor]:
    state = trained.model.state_dict()
    return [value for name, value in state.items() if name.rpartition(".")[2] == leaf]


def test_a_new_item_has_a_score_of_its_own_once_it_is_admitted():
    first = fit("masknet", FIRST)
    old = [scores(first, rows_like(SECOND, item)) for item in (6, 7)]
    np.testing.assert_array_equal(*old)
    second = fit("masknet", SECOND, begun(first))
    odd, even = (scores(second, rows_like(SECOND, item)).mean() for item in (7, 6))
    assert odd > even + 0.05  # odd items are clicked more


def test_rare_items_train_the_shared_vector():
    """Without one of their own, all items are one."""
    trained = fit("masknet", FIRST, admit_after=N + 1)
    assert trained.admitted.changes["admitted"] == 0
    np.testing.assert_array_equal(*(scores(trained, rows_like(SECOND, item)) for item in (0, 1)))
    table = trained.model.fields.table.weight
    assert table.shape[0] == 2  # one for each column
    assert table.abs().max() > 0.02  # and not as it was drawn


def test_vectors_of_another_space_are_refused_by_name():
    first = fit("masknet", FIRST)
    message = "2024-01-02 is in space 'other', the model to go on from in space 's'"
    with pytest.raises(SpaceMismatch, match=message):
        fit("masknet", replace(SECOND, space="other"), begun(first))


def test_a_model_from_its_files_goes_on_as_one_in_memory(tmp_path):
    first = fit("wide_deep", FIRST)
    save(tmp_path, first.model, first.space)
    first.admitted.seen.save(tmp_path)
    stored = load(tmp_path)
    start = Start(stored.model, stored.space, 1, Seen.load(tmp_path, SPEC), 9)
    assert_equal(fit("wide_deep", SECOND, start), fit("wide_deep", SECOND, begun(first)))


def assert_equal(found: Trained, expected: Trained) -> None:
    np.testing.assert_array_equal(found.losses, expected.losses)
    weights = found.model.state_dict()
    for name, value in expected.model.state_dict().items():
        np.testing.assert_array_equal(weights[name].numpy(), value.numpy(), err_msg=name)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    """One that had gone on from another model, with vectors that come and go."""
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    start = begun(fit("wide_deep", FIRST), evict_after_days=1)
    saved = Checkpoint(tmp_path / "file.pt", "this")
    with pytest.raises(Killed):
        fit("wide_deep", SECOND, start, saved, until=BATCH * 7)
    assert_equal(fit("wide_deep", SECOND, start, saved), fit("wide_deep", SECOND, start))


@pytest.mark.parametrize("tables", ["whole", "sharded"])
def test_two_processes_learn_what_one_learns(tmp_path: Path, tables):
    """With vectors of their own for some, from the model of the day before."""
    start = begun(fit("masknet", FIRST), evict_after_days=1)
    expected = fit("masknet", SECOND, start)

    def work() -> None:
        trained = fit("masknet", SECOND, start, tables=tables)
        torch.save(trained.model.state_dict(), tmp_path / f"{processes.rank()}.pt")

    together(2, work)
    found = torch.load(tmp_path / "0.pt")
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
