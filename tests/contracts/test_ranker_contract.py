"""The contract of every ranker: one suite over all kinds, and over a toy added as one file."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import fresh_process
import mlflow
import numpy as np
import pytest
import torch
from small_spec import SPEC

from models import rankers, serving
from models.features import Day, FeatureSpec, InvalidExamples, gather
from models.metrics import log_loss
from models.packaging import logging_arguments
from models.rankers.base import (
    RankerError,
    RankerOptions,
    build,
    kind_of,
    kinds,
    read_options,
)
from models.start import Start
from models.store import describe, load, save
from models.training import Trained, TrainingConfig, predict, train

ROOT = Path(__file__).parent.parent.parent
CFG = TrainingConfig(batch_size=64, learning_rate=1e-2, seed=3)
# Options with which a kind takes milliseconds, where its defaults are for a much larger log.
SMALL = {
    "heavy_ranker": {
        "aggregation": 64,
        "block_width": 32,
        "blocks": 2,
        "field_width": 8,
        "hidden": 64,
        "tower": (32, 16),
    },
    # At the learning rate of these tests, degree 4 makes probabilities that round to 1.
    "qnn": {"layers": 1},
}

TOY_KIND = "toy_logistic"
TOY = '''
"""Logistic regression on the shared fields: all that a new ranker has to be."""

import torch
from torch import nn

from models.rankers.base import RankerOptions
from models.rankers.inputs import Fields


class Options(RankerOptions):
    width: int = 4


class Logistic(nn.Module):
    def __init__(self, spec, options):
        super().__init__()
        self.spec = spec
        self.options = options
        self.fields = Fields(spec, options.width, number_fields=1)
        self.heads = nn.Linear(self.fields.count * options.width, len(spec.labels))

    def initialise(self, statistics):
        self.fields.initialise(statistics)
        with torch.no_grad():
            self.heads.bias.copy_(torch.from_numpy(statistics.log_odds_L))

    def forward(self, categories_BC, numbers_BN, vectors_B2V):
        return self.heads(self.fields(categories_BC, numbers_BN, vectors_B2V).flatten(1))


RANKER = Logistic
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A further kind, added as one file and nothing else."""
    folder = tmp_path_factory.mktemp("rankers")
    (folder / f"{TOY_KIND}.py").write_text(TOY)
    paths = list(rankers.__path__)
    rankers.__path__ = [*paths, str(folder)]
    yield TOY_KIND
    rankers.__path__ = paths
    sys.modules.pop(f"models.rankers.{TOY_KIND}")


@pytest.fixture(scope="module", params=[*kinds(), TOY_KIND])
def kind(request) -> str:
    """Every kind in models/rankers, and the toy."""
    return request.getfixturevalue("toy") if request.param == TOY_KIND else request.param


def day(name: str, n: int, seed: int) -> Day:
    """Clicks follow a number, the item and the agreement of the vectors; likes are rare clicks."""
    rng = np.random.default_rng(seed)
    categories = np.stack([rng.integers(0, c.buckets, n) for c in SPEC.categorical], axis=1)
    numbers = rng.normal(size=(n, 2)).astype(np.float32)
    consumers, producers = np.random.default_rng(9).normal(size=(2, 50, 3)).astype(np.float32)
    consumer_rows, producer_rows = rng.integers(-1, 50, (2, n))
    products = gather(consumers, consumer_rows) * gather(producers, producer_rows)
    logits = numbers[:, 0] + categories[:, 0] % 2 + products.sum(axis=1) - 0.5
    clicks = rng.random(n) < 1 / (1 + np.exp(-logits))
    likes = clicks & (rng.random(n) < 0.1)
    return Day(
        name=name,
        space="s",
        categories=categories,
        numbers=numbers,
        labels=np.stack([clicks, likes], axis=1).astype(np.float32),
        consumer_rows=consumer_rows,
        producer_rows=producer_rows,
        consumer_vectors=consumers,
        producer_vectors=producers,
    )


SEEN = day("2022-04-25", 3000, seed=0)
UNSEEN = day("2022-04-26", 1000, seed=1)


def small(kind: str) -> RankerOptions:
    return read_options(kind, SMALL.get(kind, {}))


def fit(kind: str, days: list[Day], spec: FeatureSpec = SPEC) -> Trained:
    return train(days, spec, kind, small(kind), CFG)


@pytest.fixture(scope="module")
def trained(kind) -> Trained:
    return fit(kind, [SEEN])


@pytest.fixture(scope="module")
def scores(trained) -> np.ndarray:
    return predict(trained.model, UNSEEN, "s")


# Building


def test_it_is_built_from_a_spec_and_knows_both(kind):
    options = small(kind)
    ranker = build(kind, SPEC, options)
    assert (ranker.spec, ranker.options, kind_of(ranker)) == (SPEC, options, kind)


def test_the_same_random_state_gives_the_same_weights(kind):
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(build(kind, SPEC, small(kind)).state_dict())
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)


def test_an_unknown_option_is_refused(kind):
    with pytest.raises(RankerError, match=rf"'{kind}': no_such_option"):
        read_options(kind, {"no_such_option": 1})


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"labels": ()}, "at least one label"),
        ({"categorical": ()}, "at least one categorical feature"),
        ({"vector_dim": -1}, "published vectors, and their length is -1"),
    ],
)
def test_a_spec_that_lacks_something_is_refused_by_name(kind, missing, message):
    spec = dataclasses.replace(SPEC, **missing)
    with pytest.raises(RankerError, match=f"'{kind}'.*{message}"):
        build(kind, spec, small(kind))


# Learning


def test_it_improves_on_the_base_rate(scores):
    """On a day that it has not seen, clicks cost fewer nats than always predicting their rate."""
    clicks = UNSEEN.labels[:, 0]
    base_rate = np.full(len(UNSEEN), SEEN.labels[:, 0].mean())
    assert log_loss(clicks, scores[:, 0]) < log_loss(clicks, base_rate) - 0.02


def test_rare_categories_share_a_vector_and_survive_its_files(kind, tmp_path):
    """Items that were read once have one score; the model on disk knows which these are."""
    rare = FEW.categories.copy()
    rare[:3, 0] = [7, 11, 13]
    rare[3:, 0] = FEW.categories[3:, 0] % 5
    cfg = dataclasses.replace(CFG, admit_after=2)
    read = changed(FEW, categories=rare)
    model = train([read], SPEC, kind, small(kind), cfg).model
    scores = []
    for item in (7, 11, 19, 1):
        categories = FEW.categories.copy()
        categories[:, 0] = item
        scores.append(predict(model, changed(FEW, categories=categories), "s"))
    for other in scores[1:3]:
        np.testing.assert_array_equal(other, scores[0])
    assert (scores[3] != scores[0]).any()
    save(tmp_path, model, "s")
    np.testing.assert_array_equal(predict(load(tmp_path).model, FEW, "s"), predict(model, FEW, "s"))


def test_it_goes_on_from_a_model_of_its_kind(kind):
    """With rows of its tables that come and go: it is no worse than the one that it began from."""
    cfg = dataclasses.replace(CFG, admit_after=1)
    first = train([without_highest_buckets(SEEN)], SPEC, kind, small(kind), cfg)
    assert first.admitted is not None
    start = Start(first.model, "s", 1, first.admitted.seen, 1)
    before = predict(first.model, UNSEEN, "s")[:, 0]
    gentle = dataclasses.replace(cfg, learning_rate=1e-3, last_rate=1)
    next_day = with_other_items(day("2022-04-27", 2000, seed=2))
    second = train([next_day], SPEC, kind, small(kind), gentle, start=start)
    assert second.admitted is not None
    assert all(second.admitted.changes.values())
    after = predict(second.model, UNSEEN, "s")[:, 0]
    clicks = UNSEEN.labels[:, 0]
    assert log_loss(clicks, after) < log_loss(clicks, before) + 0.01


def with_other_items(rows: Day) -> Day:
    """Without the first item, which was seen, and with the last one, which was not."""
    categories = rows.categories.copy()
    categories[:, 0] = np.maximum(categories[:, 0], 1)
    return changed(rows, categories=categories)


def test_training_twice_gives_the_same_bytes(kind, trained, tmp_path):
    save(tmp_path / "a", trained.model, "s")
    save(tmp_path / "b", fit(kind, [SEEN]).model, "s")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_label_that_never_occurs_is_improbable(kind):
    labels = SEEN.labels.copy()
    labels[:, 1] = 0
    model = fit(kind, [dataclasses.replace(SEEN, labels=labels)]).model
    probabilities = predict(model, UNSEEN, "s")[:, 1]
    assert np.isfinite(probabilities).all()
    assert probabilities.mean() < 0.02


def changed(rows: Day, **columns: np.ndarray) -> Day:
    return dataclasses.replace(rows, **columns)


def all_equal(rows: Day) -> Day:
    """Every row is the first one."""
    return rows.reordered(np.zeros(len(rows), dtype=np.int64))


def with_highest_buckets(rows: Day) -> Day:
    """Ids that no other row has."""
    highest = np.array([column.buckets - 1 for column in SPEC.categorical])
    return changed(rows, categories=np.tile(highest, (len(rows), 1)))


def without_highest_buckets(rows: Day) -> Day:
    highest = np.array([column.buckets - 1 for column in SPEC.categorical])
    return changed(rows, categories=np.minimum(rows.categories, highest - 1))


FEW = SEEN.reordered(np.arange(257))  # the last batch has one row
# What the rows trained on and those scored may be: (days, rows) that give probabilities.
ODD = {
    "no number is known": ([changed(FEW, numbers=np.full((257, 2), np.nan, np.float32))], FEW),
    "every number is constant": ([changed(FEW, numbers=np.full((257, 2), 7, np.float32))], FEW),
    "all rows are equal": ([all_equal(FEW)], all_equal(FEW)),
    "a label never occurs": ([changed(FEW, labels=FEW.labels * 0)], FEW),
    "a label always occurs": ([changed(FEW, labels=FEW.labels * 0 + 1)], FEW),
    "an id was never seen": ([without_highest_buckets(FEW)], with_highest_buckets(FEW)),
    "nobody has a vector": ([FEW.masked()], FEW.masked()),
    "a day is empty": ([FEW.reordered(np.arange(0)), FEW], FEW),
    "there is one row": ([FEW.last(1)], FEW.last(1)),
}
# What is refused: the change, and what the message says.
REFUSED = {
    "a number is infinite": ("numbers", np.inf, "'num_x' has an infinite value"),
    "a label is unknown": ("labels", np.nan, "'label_click' has a value other than 0 and 1"),
    "a bucket does not exist": ("categories", 10**6, "has a bucket outside of 0 to"),
}


def test_odd_rows_give_probabilities(kind):
    for name, (days, rows) in ODD.items():
        trained = fit(kind, days)
        scores = predict(trained.model, rows, trained.space)
        assert np.isfinite(scores).all(), name
        assert ((scores >= 0) & (scores <= 1)).all(), name
        assert np.isfinite(trained.losses).all(), name


def test_rows_that_cannot_be_read_are_refused_by_name(kind):
    """In training and in scoring: no weight and no score is made of them."""
    model = fit(kind, [FEW]).model
    for name, (column, value, message) in REFUSED.items():
        values = getattr(FEW, column).copy()
        values[5, 0] = value
        bad = changed(FEW, **{column: values})
        with pytest.raises(InvalidExamples, match=message):
            fit(kind, [bad])
            pytest.fail(name)
        with pytest.raises(InvalidExamples, match=message):
            predict(model, bad, "s")
            pytest.fail(name)


def test_no_rows_at_all_are_refused(kind):
    with pytest.raises(InvalidExamples, match="no row to train a ranker on"):
        fit(kind, [FEW.reordered(np.arange(0))])


# Scoring


def test_scores_are_probabilities_one_per_label(scores):
    assert scores.shape == (len(UNSEEN), len(SPEC.labels))
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()


def test_a_batch_scores_like_its_rows_one_by_one(trained, scores):
    few = 20
    rows = dataclasses.replace(
        UNSEEN,
        categories=UNSEEN.categories[:few],
        numbers=UNSEEN.numbers[:few],
        labels=UNSEEN.labels[:few],
        consumer_rows=UNSEEN.consumer_rows[:few],
        producer_rows=UNSEEN.producer_rows[:few],
    )
    one_by_one = predict(trained.model, rows, "s", batch_size=1)
    np.testing.assert_allclose(one_by_one, scores[:few], rtol=1e-4)


def test_an_unknown_number_scores_like_the_mean_of_its_column(trained):
    """NaN is no information: finite scores, which another number would change."""
    unknown, mean, other = UNSEEN.numbers.copy(), UNSEEN.numbers.copy(), UNSEEN.numbers.copy()
    unknown[:, 0] = np.nan
    mean[:, 0] = SEEN.numbers[:, 0].mean(dtype=np.float64)
    other[:, 0] += 2

    def scored(numbers: np.ndarray) -> np.ndarray:
        return predict(trained.model, dataclasses.replace(UNSEEN, numbers=numbers), "s")

    np.testing.assert_allclose(scored(unknown), scored(mean), rtol=1e-4)
    assert not np.allclose(scored(unknown), scored(other), rtol=1e-2)


def test_an_empty_day_has_no_scores(trained):
    nothing = {name: getattr(UNSEEN, name)[:0] for name in ("categories", "numbers", "labels")}
    rows = {name: getattr(UNSEEN, name)[:0] for name in ("consumer_rows", "producer_rows")}
    empty = dataclasses.replace(UNSEEN, **nothing, **rows)
    assert predict(trained.model, empty, "s").shape == (0, 2)


# Storing and serving


def test_a_stored_ranker_scores_like_the_one_in_memory(kind, trained, scores, tmp_path):
    """safetensors and JSON and back: the same kind, options and spec, and the same bits."""
    save(tmp_path, trained.model, "s")
    described = describe(tmp_path)
    saved = load(tmp_path)
    assert (described.kind, described.options) == (kind, trained.model.options)
    assert (saved.model.spec, saved.space) == (SPEC, "s")
    np.testing.assert_array_equal(predict(saved.model, UNSEEN, "s"), scores)


def test_a_served_ranker_scores_like_the_stored_one(trained, tmp_path):
    """Columns with the names of the signature in, one column per label out."""
    save(tmp_path, trained.model, "s")
    server = serving.ServedRanker()
    server.load_context(SimpleNamespace(artifacts={serving.ARTIFACT: str(tmp_path)}))
    table = request(tmp_path)
    answer = server.predict(None, table)
    rows = serving.as_day(table, SPEC, "s")
    assert tuple(answer.columns) == SPEC.labels
    np.testing.assert_array_equal(answer.to_numpy(), predict(trained.model, rows, "s"))


@pytest.mark.slow
def test_a_logged_toy_runs_where_nothing_of_ours_is_installed(toy, tmp_path):
    """In a fresh process, with the code that was logged with it, its own file included.

    One kind is enough, and a process takes seconds; tests/models/test_packaging.py has another.
    """
    trained = fit(toy, [SEEN])
    save(tmp_path / "trained", trained.model, "s")
    logged = tmp_path / "logged"
    mlflow.pyfunc.save_model(logged, **logging_arguments(tmp_path / "trained", tmp_path / "code"))
    table = request(tmp_path / "trained")
    answer, modules = fresh_process.score(logged, table, tmp_path)
    expected = predict(trained.model, serving.as_day(table, SPEC, "s"), "s")
    np.testing.assert_array_equal(answer, expected)
    assert modules["models"].is_relative_to(logged)
    assert [name for name, file in modules.items() if not file.is_relative_to(logged)] == []


def request(home: Path):
    """Three rows as a caller would send them; the second consumer has a vector."""
    table = serving.input_example(home).loc[[0, 0, 0]].reset_index(drop=True)
    table["hash_item"] = [1, 2, 3]
    table["num_x"] = [0.5, -1.0, 2.0]
    table["consumer_vector"] = [[0.0] * 3, [1.0, 0.0, 0.5], [0.1] * 3]
    return table


# The seam


def test_no_code_outside_its_file_names_a_ranker():
    """Everything finds rankers by kind: no other module imports the file of one."""
    imports = re.compile(
        rf"models\.rankers\.({'|'.join(kinds())})\b|models\.rankers import ({'|'.join(kinds())})\b"
    )
    naming = []
    for folder in ("dags", "embeddings", "jobs", "models", "perf"):
        for file in (ROOT / folder).rglob("*.py"):
            if imports.search(file.read_text()):
                naming.append(str(file.relative_to(ROOT)))
    assert naming == []
