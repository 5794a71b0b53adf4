"""Training: one pass, in order, the same weights every time; and the model on disk scores like the one in memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.features import Categorical, Day, FeatureSpec, SpaceMismatch, gather
from models.losses import label_losses
from models.metrics import auc
from models.rankers.masknet import MaskNet, MaskNetConfig
from models.store import load, save
from models.training import TrainingConfig, predict, rate, set_rates, set_statistics, train

SPEC = FeatureSpec(
    categorical=(Categorical("hash_item", 20, "item"),),
    numeric=("num_x",),
    labels=("label_click", "label_rare"),
    vector_dim=3,
)
NET = MaskNetConfig(field_width=4, number_fields=1, block_width=8, hidden=(8,))
CFG = TrainingConfig(batch_size=64, learning_rate=1e-2, seed=3)


def day(name: str, n: int = 1500, space: str = "s", seed: int = 0) -> Day:
    """Clicks follow the number, the item and whether the vectors agree; the rare label follows nothing."""
    rng = np.random.default_rng(seed)
    items, x = rng.integers(0, 20, (n, 1)), rng.normal(size=(n, 1)).astype(np.float32)
    consumers, producers = rng.normal(size=(2, 50, 3)).astype(np.float32)
    rows = rng.integers(-1, 50, (2, n))
    agree = (gather(consumers, rows[0]) * gather(producers, rows[1])).sum(axis=1)
    logit = x[:, 0] + (items[:, 0] % 2) + agree - 0.5
    labels = np.stack(
        [rng.random(n) < 1 / (1 + np.exp(-logit)), rng.random(n) < 0.01], axis=1
    ).astype(np.float32)
    return Day(
        name, space, items.astype(np.int64), x, labels, rows[0], rows[1], consumers, producers
    )


DAYS = [day("2022-04-25", seed=0), day("2022-04-26", 700, seed=1)]


@pytest.fixture(scope="module")
def trained():
    return train(DAYS, SPEC, NET, CFG)


def test_training_learns_what_there_is(trained):
    """On a day it has not seen, clicks are ranked well; the label without any signal stays at chance."""
    unseen = day("2022-04-27", 3000, seed=2)
    scores = predict(trained.model, unseen, "s")
    assert auc(unseen.labels[:, 0], scores[:, 0]) > 0.75
    assert 0.2 < auc(unseen.labels[:, 1], scores[:, 1]) < 0.8


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    """Trained twice, saved twice: the same files. Another seed: other files."""
    save(tmp_path / "a", trained.model, trained.space)
    save(tmp_path / "b", train(DAYS, SPEC, NET, CFG).model, "s")
    save(tmp_path / "c", train(DAYS, SPEC, NET, dataclasses.replace(CFG, seed=4)).model, "s")
    a, b, c = ((tmp_path / x / "model.safetensors").read_bytes() for x in "abc")
    assert a == b != c


def test_the_callers_random_state_is_left_alone():
    """Training draws from its own seed and puts everything back."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(DAYS[1:], SPEC, NET, CFG)
    torch.testing.assert_close(torch.rand(3), expected)


def test_every_row_is_seen_once_and_in_order(monkeypatch):
    """One pass: the labels that reach the loss, laid end to end, are the days' labels."""
    seen = []
    monkeypatch.setattr(
        "models.training.label_losses", lambda z, y: (seen.append(y.clone()), label_losses(z, y))[1]
    )
    result = train(DAYS, SPEC, NET, CFG)
    np.testing.assert_array_equal(torch.cat(seen).numpy(), np.concatenate([d.labels for d in DAYS]))
    assert len(result.losses) == -(-1500 // 64) + -(-700 // 64)  # a batch never straddles two days


def test_what_comes_last_is_learned_last():
    """The last rows' labels in another order: every loss before that batch is the same, the one after is not."""
    turned = DAYS[1].labels.copy()
    turned[-40:] = turned[-40:][::-1]
    other = train([DAYS[0], dataclasses.replace(DAYS[1], labels=turned)], SPEC, NET, CFG)
    losses = train(DAYS, SPEC, NET, CFG).losses
    np.testing.assert_array_equal(other.losses[:-1], losses[:-1])
    assert (other.losses[-1] != losses[-1]).any()


def test_two_spaces_are_refused_by_name():
    """Vectors of two coordinate systems: an error that names both, and no model."""
    with pytest.raises(
        SpaceMismatch, match=r"2022-04-25 is in space 's', 2022-04-26 in space 'other'"
    ):
        train([DAYS[0], dataclasses.replace(DAYS[1], space="other")], SPEC, NET, CFG)


def test_a_model_is_not_used_on_another_space(trained):
    """Nor does a model score vectors of a space it was not trained on."""
    with pytest.raises(
        SpaceMismatch, match="the model is in space 's', 2022-05-01 in space 'other'"
    ):
        predict(trained.model, day("2022-05-01", space="other"), trained.space)


def test_a_day_without_vectors_goes_with_any_space():
    """The log's first day has no version before it: all rows unknown, no space."""
    none = np.zeros((0, 3), dtype=np.float32)
    unknown = np.full(1500, -1)
    first = dataclasses.replace(
        DAYS[0],
        space="",
        consumer_rows=unknown,
        producer_rows=unknown,
        consumer_vectors=none,
        producer_vectors=none,
    )
    assert train([first, DAYS[1]], SPEC, NET, CFG).space == "s"


def test_a_model_on_disk_scores_like_the_one_in_memory(trained, tmp_path):
    """safetensors and JSON, there and back: the same spec, and the same probabilities to the bit."""
    save(tmp_path, trained.model, trained.space)
    saved = load(tmp_path)
    assert (saved.space, saved.model.spec, saved.model.cfg) == ("s", SPEC, NET)
    np.testing.assert_array_equal(
        predict(saved.model, DAYS[1], "s"), predict(trained.model, DAYS[1], "s")
    )


def test_a_spec_survives_json():
    assert FeatureSpec.from_json(SPEC.to_json()) == SPEC


def test_statistics_are_those_of_the_known_values():
    """Mean and spread over all days, NaN left out; a constant column turns into zeros instead of infinities."""
    numbers = np.array([[1.0], [np.nan], [3.0]], dtype=np.float32)
    one = dataclasses.replace(DAYS[0], numbers=numbers)
    model = MaskNet(SPEC, NET)
    set_statistics(model, [one, dataclasses.replace(one, numbers=numbers + 4)])
    assert model.fields.mean_N.item() == 4  # of 1, 3, 5, 7
    assert model.fields.std_N.item() == pytest.approx(np.std([1, 3, 5, 7]))
    set_statistics(model, [dataclasses.replace(one, numbers=np.ones((3, 1), dtype=np.float32))])
    assert ((torch.ones(1) - model.fields.mean_N) / model.fields.std_N).item() == 0


def test_heads_start_at_the_rates_of_their_labels():
    """With everything else silent, the first prediction is how often each label happened, over all days."""
    model = MaskNet(SPEC, NET)
    set_rates(model, DAYS)
    labels = np.concatenate([d.labels for d in DAYS])
    start = torch.sigmoid(model.heads.bias).detach().numpy()
    np.testing.assert_allclose(start, (labels.sum(axis=0) + 1) / (len(labels) + 2), rtol=1e-5)


def test_the_loss_is_a_cross_entropy_a_label():
    """-mean(y log p + (1 - y) log(1 - p)), column by column."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 2)), rng.integers(0, 2, (9, 2)).astype(float)
    p = 1 / (1 + np.exp(-logits))
    by_hand = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p), axis=0)
    np.testing.assert_allclose(
        label_losses(torch.from_numpy(logits), torch.from_numpy(labels)), by_hand
    )


def test_the_learning_rate_climbs_and_falls():
    """From near zero to the peak in the first twentieth, to near zero at the end."""
    rates = [rate(step, 100, 0.05) for step in range(100)]
    assert max(rates) == rates[4] == 1
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_rows_that_are_minus_one_have_no_vector():
    """gather: the row's vector, zeros for -1."""
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(gather(vectors, np.array([2, -1, 0])), [[4, 5], [0, 0], [0, 1]])
