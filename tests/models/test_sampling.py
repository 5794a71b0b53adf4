"""Training on a share of the negatives: which labels count, and rates that stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from embeddings.benchmarks.auc import auc
from models import checkpoint, sampling
from models.checkpoint import Checkpoint
from models.features import Categorical, Day, FeatureSpec, InvalidExamples
from models.losses import label_losses
from models.rankers.base import read_options
from models.sampling import Sampled
from models.stored import StoredDay
from models.training import Trained, TrainingConfig, predict, train

SPEC = FeatureSpec(
    categorical=(Categorical("hash_item", 10, "item"),),
    numeric=("num_x",),
    labels=("label_click", "label_like"),
    vector_dim=0,
)
SHARE = 0.1
CFG = TrainingConfig(batch_size=64, learning_rate=2e-2, seed=5, negatives_kept=SHARE)


def true_log_odds(items: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of a click and of a like: (n, 2)."""
    return np.stack([0.7 * x - 3 + 0.1 * items, -0.7 * x - 1 - 0.2 * items], axis=1)


def day(rows: int, seed: int = 0, name: str = "2022-04-25") -> Day:
    """Labels of the planted odds, independent of each other."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 10, rows)
    x = rng.normal(size=rows)
    rates = 1 / (1 + np.exp(-true_log_odds(items, x)))
    unknown = np.full(rows, -1)
    nothing = np.zeros((0, 0), dtype=np.float32)
    return Day(
        name=name,
        space="",
        categories=items[:, None],
        numbers=x[:, None].astype(np.float32),
        labels=(rng.random((rows, 2)) < rates).astype(np.float32),
        consumer_rows=unknown,
        producer_rows=unknown,
        consumer_vectors=nothing,
        producer_vectors=nothing,
    )


def fit(days: list, cfg: TrainingConfig = CFG, **others) -> Trained:
    return train(days, SPEC, "logistic", read_options("logistic", {}), cfg, **others)


def weights_of(trained: Trained) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in trained.model.state_dict().items()}


def by_hand(rows: Day, share: float, seed: int) -> list[tuple[int, list[float]]]:
    """Number and labels of every row that is read, one row and one label after another."""
    rng = np.random.default_rng([seed, *rows.name.encode()])
    read = []
    for number, labels in enumerate(rows.labels.tolist()):
        drawn = rng.random() < share
        kept = [label if label == 1 or drawn else np.nan for label in labels]
        if not all(np.isnan(kept)):
            read.append((number, kept))
    return read


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 1e-9])
@pytest.mark.parametrize("size", [1, 16, 1000])
def test_a_row_is_read_where_one_of_its_labels_counts(monkeypatch, share, size):
    """All positives, and negatives by one number of the row, whatever the pieces and batches."""
    monkeypatch.setattr(sampling, "PIECE", 37)
    rows = day(200)
    expected = by_hand(rows, share, seed=3)
    drawn = Sampled(rows, share, seed=3)
    batches = list(drawn.batches(size))
    numbers = [number for number, _ in expected]
    found = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("labels", "numbers", "categories")
    }
    assert len(drawn) == len(expected)
    np.testing.assert_array_equal(found["labels"], [labels for _, labels in expected])
    np.testing.assert_array_equal(found["numbers"], rows.numbers[numbers])
    np.testing.assert_array_equal(found["categories"], rows.categories[numbers])
    assert {len(batch.labels) for batch in batches[:-1]} <= {size}
    np.testing.assert_array_equal(np.concatenate(list(drawn.outcomes(size))), found["labels"])


def test_every_day_and_every_seed_draws_anew():
    """A row of two days is not left out on both for the same reason."""
    drawn = []
    for name, seed in (("2022-04-25", 0), ("2022-04-26", 0), ("2022-04-25", 1)):
        rows = replace(day(500, name=name), labels=np.zeros((500, 2), dtype=np.float32))
        drawn.append([number for number, _ in by_hand(rows, 0.5, seed)])
        assert len(Sampled(rows, 0.5, seed)) == len(drawn[-1])
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_the_loss_is_that_of_the_odds_among_the_drawn_rows():
    """By a loop: of p in the whole log, p / (p + r (1 − p)) are positives among what is drawn."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 2))
    labels = rng.choice([0, 1, np.nan], size=(40, 2))
    expected = np.zeros(2)
    for logit, label in zip(logits, labels, strict=True):
        for head in range(2):
            p = 1 / (1 + np.exp(-logit[head]))
            among = p / (p + SHARE * (1 - p))
            if label[head] == 1:
                expected[head] -= np.log(among)
            elif label[head] == 0:
                expected[head] -= np.log(1 - among)
    arguments = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)
    found = label_losses(*arguments, negatives_kept=SHARE)
    np.testing.assert_allclose(found.detach(), expected / 40)
    shares = label_losses(*arguments, rows=80, negatives_kept=SHARE)
    np.testing.assert_allclose(shares.detach(), expected / 80)
    found.sum().backward()
    gradient = arguments[0].grad.numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient == 0, np.isnan(labels))


def test_probabilities_are_those_of_the_whole_log():
    """A tenth of the negatives: the planted rates of both labels, and the order of all rows."""
    window, unseen = [day(240_000, seed=1)], day(50_000, seed=2)
    truth = 1 / (1 + np.exp(-true_log_odds(unseen.categories[:, 0], unseen.numbers[:, 0])))
    cfg = replace(CFG, batch_size=256, learning_rate=3e-2)
    found, every = fit(window, cfg), fit(window, replace(cfg, negatives_kept=1.0))
    assert found.rows < every.rows / 2
    scores = predict(found.model, unseen, "")
    all_scores = predict(every.model, unseen, "")
    for label in range(2):
        p = scores[:, label]
        # Without the correction, a mean rate of 9 % would be one of 40 %.
        assert p.mean() == pytest.approx(truth[:, label].mean(), rel=0.05)
        for item in range(10):
            rows = unseen.categories[:, 0] == item
            assert p[rows].mean() == pytest.approx(truth[rows, label].mean(), rel=0.2)
        exact = auc(unseen.labels[:, label], all_scores[:, label])
        assert auc(unseen.labels[:, label], p) == pytest.approx(exact, abs=0.005)


def test_files_and_a_kill_give_the_same_weights(tmp_path, monkeypatch):
    """To the bit: of rows in memory, in files, and after going on from a checkpoint."""
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    rows = day(3000)
    columns = {"hash_item": rows.categories[:, 0], "num_x": rows.numbers[:, 0]}
    columns |= {name: rows.labels[:, place] for place, name in enumerate(SPEC.labels)}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=700)
    files = (tmp_path / "rows.parquet",)
    nothing = np.zeros((0, 0), dtype=np.float32)
    stored = StoredDay(rows.name, "", files, SPEC, False, nothing, nothing)
    saved = Checkpoint(tmp_path / "checkpoint.pt", "this")

    class Killed(Exception):
        pass

    def progress(name: str, done: int, total: int, loss: float) -> None:
        if done == 64 * 7:
            raise Killed

    expected = fit([rows])
    with pytest.raises(Killed):
        fit([stored], progress=progress, checkpoint=saved)
    assert saved.path.exists()
    found = fit([stored], checkpoint=saved)
    np.testing.assert_array_equal(found.losses, expected.losses)
    for name, weights in weights_of(expected).items():
        np.testing.assert_array_equal(weights_of(found)[name], weights)
    assert found.rows == expected.rows == len(by_hand(rows, SHARE, CFG.seed))


def test_where_nothing_is_drawn_the_share_is_named():
    rows = replace(day(50), labels=np.zeros((50, 2), dtype=np.float32))
    with pytest.raises(InvalidExamples, match="negatives_kept = 1e-09 draws none"):
        fit([rows], replace(CFG, negatives_kept=1e-9))


def test_a_day_of_which_nothing_is_drawn_changes_nothing():
    """As an empty one."""
    empty = replace(day(50, name="2022-04-24"), labels=np.zeros((50, 2), dtype=np.float32))
    cfg = replace(CFG, negatives_kept=1e-9)
    assert len(fit([empty, day(500)], cfg).losses) == len(fit([day(500)], cfg).losses)
