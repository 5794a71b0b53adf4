"""Training: one pass in time order, reproducible to the bit, and vectors of one space only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from embeddings.benchmarks.auc import auc
from embeddings.registry.errors import SpaceMismatch
from models.features import Categorical, Day, FeatureSpec, InvalidExamples, gather
from models.losses import label_losses
from models.rankers.base import kinds, read_options
from models.row_statistics import statistics_of
from models.store import save
from models.training import (
    Trained,
    TrainingConfig,
    in_order,
    predict,
    rate,
    train,
)
from models.transfer import tensors

SPEC = FeatureSpec(
    categorical=(Categorical("hash_item", 20, "item"),),
    numeric=("num_x",),
    labels=("label_click", "label_rare"),
    vector_dim=3,
)
KIND = kinds()[0]  # any one will do: tests/contracts/test_ranker_contract.py has all of them
OPTIONS = read_options(KIND, {})
CFG = TrainingConfig(batch_size=64, learning_rate=1e-2, seed=3)


def day(name: str, n: int = 1500, space: str = "s", seed: int = 0) -> Day:
    """Clicks follow the number, the item and the vectors; the rare label follows nothing."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 20, (n, 1))
    x = rng.normal(size=(n, 1)).astype(np.float32)
    consumers, producers = rng.normal(size=(2, 50, 3)).astype(np.float32)
    rows = rng.integers(-1, 50, (2, n))
    agree = (gather(consumers, rows[0]) * gather(producers, rows[1])).sum(axis=1)
    logit = x[:, 0] + (items[:, 0] % 2) + agree - 0.5
    clicked = rng.random(n) < 1 / (1 + np.exp(-logit))
    rare = rng.random(n) < 0.01
    labels = np.stack([clicked, rare], axis=1).astype(np.float32)
    return Day(
        name, space, items.astype(np.int64), x, labels, rows[0], rows[1], consumers, producers
    )


DAYS = [day("2022-04-25", seed=0), day("2022-04-26", 700, seed=1)]


def fit(days: list[Day], cfg: TrainingConfig = CFG) -> Trained:
    return train(days, SPEC, KIND, OPTIONS, cfg)


@pytest.fixture(scope="module")
def trained():
    return fit(DAYS)


def test_training_ranks_a_day_that_it_has_not_seen(trained):
    """Clicks are ranked well; the label without any signal stays at chance."""
    unseen = day("2022-04-27", 3000, seed=2)
    scores = predict(trained.model, unseen, "s")
    assert auc(unseen.labels[:, 0], scores[:, 0]) > 0.75
    assert 0.2 < auc(unseen.labels[:, 1], scores[:, 1]) < 0.8


@pytest.mark.parametrize("rows", [0, 1, 100, 1500])
def test_scores_are_the_same_in_any_number_of_threads(trained, rows):
    """Fewer batches than threads, a short last batch, none at all."""
    unseen = day("2022-04-27", seed=2).part(slice(0, rows))
    alone, *others = (
        predict(trained.model, unseen, "s", batch_size=64, threads=threads) for threads in (1, 2, 5)
    )
    by_hand = [trained.model(*tensors(batch)[0]).sigmoid() for batch in unseen.batches(64)]
    np.testing.assert_array_equal(
        alone, np.concatenate([np.zeros((0, 2)), *(each.detach() for each in by_hand)])
    )
    for scores in others:
        np.testing.assert_array_equal(scores, alone)


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    """Trained twice, saved twice: the same files. Another seed: other files."""
    save(tmp_path / "a", trained.model, trained.space)
    save(tmp_path / "b", fit(DAYS).model, "s")
    save(tmp_path / "c", fit(DAYS, dataclasses.replace(CFG, seed=4)).model, "s")
    a, b, c = ((tmp_path / x / "model.safetensors").read_bytes() for x in "abc")
    assert a == b != c


def test_the_callers_random_state_is_left_alone():
    """Training draws from its own seed and restores the state."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(DAYS[1:])
    torch.testing.assert_close(torch.rand(3), expected)


def test_every_row_is_seen_once_and_in_order(monkeypatch):
    """One pass: the labels that reach the loss, concatenated, are the days' labels."""
    seen = []

    def recording(logits, labels, *arguments):
        seen.append(labels.clone())
        return label_losses(logits, labels, *arguments)

    monkeypatch.setattr("models.training.label_losses", recording)
    result = fit(DAYS)
    np.testing.assert_array_equal(torch.cat(seen).numpy(), np.concatenate([d.labels for d in DAYS]))
    # A batch never straddles two days: each day ends with a shorter one.
    assert len(result.losses) == -(-1500 // 64) + -(-700 // 64)


def test_days_without_vectors_are_spread_over_the_others():
    """Else a new space would be learned at the end alone, when the learning rate is nearly zero."""
    days = [day("a", 40).masked(), day("b", 20).masked(), day("c", 10), day("d", 20)]
    names = [name for name, _ in in_order(days, size=10)]
    assert names == ["a", "a", "c", "a", "a", "d", "b", "b", "d"]
    assert [name for name, _ in in_order(days[:2], size=20)] == ["a", "a", "b"]


def test_the_newest_rows_are_learned_last():
    """With the last rows' labels in another order, only the loss of the last batch differs."""
    reversed_labels = DAYS[1].labels.copy()
    reversed_labels[-40:] = reversed_labels[-40:][::-1]
    other = fit([DAYS[0], dataclasses.replace(DAYS[1], labels=reversed_labels)])
    losses = fit(DAYS).losses
    np.testing.assert_array_equal(other.losses[:-1], losses[:-1])
    assert (other.losses[-1] != losses[-1]).any()


def test_two_spaces_are_refused_by_name():
    """Training on vectors of two coordinate systems is an error that names both."""
    message = r"2022-04-25 is in space 's', 2022-04-26 in space 'other'"
    with pytest.raises(SpaceMismatch, match=message):
        fit([DAYS[0], dataclasses.replace(DAYS[1], space="other")])


def test_a_model_does_not_score_vectors_of_another_space(trained):
    message = "the model is in space 's', 2022-05-01 in space 'other'"
    with pytest.raises(SpaceMismatch, match=message):
        predict(trained.model, day("2022-05-01", space="other"), trained.space)


def test_a_masked_day_is_a_day_of_unknown_ids_and_fits_any_space(trained):
    """The same scores, to the bit; and a model in another space trains on it."""
    unseen = day("2022-05-01", space="other")
    unknown = np.full(len(unseen), -1)
    nobody = dataclasses.replace(unseen, space="s", consumer_rows=unknown, producer_rows=unknown)
    scores = predict(trained.model, unseen.masked(), trained.space)
    np.testing.assert_array_equal(scores, predict(trained.model, nobody, trained.space))
    assert fit([unseen.masked(), DAYS[1]]).space == "s"


def test_a_day_without_vectors_fits_any_space():
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
    assert fit([first, DAYS[1]]).space == "s"


WRONG_VALUES = [
    ("categories", 20, "'hash_item' has a bucket outside of 0 to 19"),
    ("categories", -1, "'hash_item' has a bucket outside of 0 to 19"),
    ("numbers", -np.inf, "'num_x' has an infinite value"),
    ("labels", np.nan, "'label_click' has a value other than 0 and 1"),
    ("labels", 0.5, "'label_click' has a value other than 0 and 1"),
]


@pytest.mark.parametrize(("part", "value", "message"), WRONG_VALUES)
def test_a_value_that_no_ranker_can_read_is_named(part, value, message):
    """With its day and its column; the last row has it."""
    values = getattr(DAYS[1], part).copy()
    values[-1, 0] = value
    with pytest.raises(InvalidExamples, match=f"2022-04-26: {message}"):
        fit([DAYS[0], dataclasses.replace(DAYS[1], **{part: values})])


def test_a_bucket_that_the_model_has_not_is_named_before_it_is_scored(trained):
    """It would read the row of another column."""
    outside = dataclasses.replace(DAYS[0], categories=DAYS[0].categories + 1)
    with pytest.raises(InvalidExamples, match="'hash_item' has a bucket outside of 0 to 19"):
        predict(trained.model, outside, "s")


def test_without_a_row_there_is_nothing_to_train_on():
    """No days, or empty ones; among others, an empty day changes nothing."""
    nothing = day("2022-04-30", n=0)
    with pytest.raises(InvalidExamples, match="no row to train a ranker on .days: none"):
        fit([])
    with pytest.raises(InvalidExamples, match="no row to train a ranker on .days: 2022-04-30"):
        fit([nothing])
    np.testing.assert_array_equal(fit([nothing, *DAYS]).losses, fit(DAYS).losses)


def test_bfloat16_learns_as_well_and_gives_the_same_bytes(trained, tmp_path):
    """Products in bfloat16, weights in float32: the AUC of clicks stays within 0.01."""
    reduced = dataclasses.replace(CFG, precision="bfloat16")
    model = fit(DAYS, reduced).model
    unseen = day("2022-04-27", 3000, seed=2)
    exact = auc(unseen.labels[:, 0], predict(trained.model, unseen, "s")[:, 0])
    found = auc(unseen.labels[:, 0], predict(model, unseen, "s")[:, 0])
    assert found == pytest.approx(exact, abs=0.01)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert (model.state_dict()["fields.mean_N"] == trained.model.fields.mean_N).all()
    save(tmp_path / "a", model, "s")
    save(tmp_path / "b", fit(DAYS, reduced).model, "s")
    a, b = ((tmp_path / x / "model.safetensors").read_bytes() for x in "ab")
    assert a == b


@pytest.mark.slow
# A warning about the compiler's own look at the tensors where the lookup interrupts the graph.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_network_learns_the_same(trained):
    """Within the rounding of fused kernels; the last, shorter batches of a day are not compiled."""
    compiled = fit(DAYS, dataclasses.replace(CFG, compiled=True))
    np.testing.assert_allclose(compiled.losses, trained.losses, atol=1e-3)
    unseen = day("2022-04-27", 500, seed=2)
    scores = [predict(model, unseen, "s") for model in (compiled.model, trained.model)]
    np.testing.assert_allclose(*scores, atol=1e-3)


def test_a_spec_survives_json():
    assert FeatureSpec.from_json(SPEC.to_json()) == SPEC


def test_statistics_are_those_of_the_known_values():
    """Mean and standard deviation over all days; NaN is left out."""
    numbers = np.array([[1.0], [np.nan], [3.0]], dtype=np.float32)
    first = dataclasses.replace(DAYS[0], numbers=numbers)
    second = dataclasses.replace(DAYS[0], numbers=numbers + 4)
    statistics = statistics_of([first, second])
    assert statistics.mean_N == pytest.approx(np.mean([1, 3, 5, 7]))
    assert statistics.std_N == pytest.approx(np.std([1, 3, 5, 7]))


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_constant_column_standardises_to_zero(value):
    """Not to infinity or NaN; the same goes for a column without any value."""
    numbers = np.full((3, 1), value, dtype=np.float32)
    statistics = statistics_of([dataclasses.replace(DAYS[0], numbers=numbers)])
    assert (5 - statistics.mean_N) / statistics.std_N == 0


def test_the_odds_of_labels_are_counted_over_all_days():
    """One positive and one negative are added, so that a label that never occurs has odds too."""
    labels = np.concatenate([one_day.labels for one_day in DAYS])
    rates = (labels.sum(axis=0, dtype=np.float64) + 1) / (len(labels) + 2)
    np.testing.assert_allclose(statistics_of(DAYS).log_odds_L, np.log(rates / (1 - rates)))
    never = [dataclasses.replace(one_day, labels=0 * one_day.labels) for one_day in DAYS]
    expected = [-np.log(len(labels) + 1)] * 2
    np.testing.assert_allclose(statistics_of(never).log_odds_L, expected)


def test_the_loss_is_one_cross_entropy_per_label():
    """-mean(y log p + (1 - y) log(1 - p)), column by column."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(9, 2))
    labels = rng.integers(0, 2, (9, 2)).astype(float)
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


def test_a_row_of_minus_one_has_no_vector():
    """gather: the row's vector, zeros for -1."""
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(gather(vectors, np.array([2, -1, 0])), [[4, 5], [0, 0], [0, 1]])
