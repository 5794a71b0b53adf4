"""Recommendations: features as the examples have them, nothing of the day itself, no Spark."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from itertools import pairwise

import httpx
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from jinja2 import FileSystemLoader
from ranker_lake import DAYS, commit_validated, copied, impressions

from embeddings.registry import pages as registry_pages
from embeddings.storage.folder import Folder
from jobs.errors import EvergreenError, NotCommitted, SettingsError
from jobs.features.columns import bucket as bucket_in_spark
from jobs.features.past_counts import PastCounts
from jobs.judging.calibration import calibration_of
from jobs.serving import pages
from jobs.serving.champion import chosen, serving_on
from jobs.serving.explaining import explain
from jobs.serving.inputs import inputs_of
from jobs.serving.past import counted_events, past_of
from jobs.serving.ranking import best_order, weights_of
from jobs.serving.recommending import Recommender, run
from jobs.settings import RankerSettings, Settings
from jobs.steps import evaluate, gate, promote, train
from jobs.steps.examples import spec_of
from jobs.steps.train import load_day
from models.calibration import Calibration, Platt
from models.standalone import bucket
from tests.http_server import serving

TODAY = DAYS[3]
LABELS = ("label_click", "label_like")


@pytest.fixture(scope="module")
def settings(four_days, tmp_path_factory) -> Settings:
    """Four days of the chain; the champion of the fourth is the model of the first or second."""
    settings = copied(four_days, tmp_path_factory.mktemp("served") / "home")
    for day in DAYS[:4]:
        for step in (evaluate, train, gate, promote):
            step.run(None, settings, day)
    return settings


@pytest.fixture
def no_spark(monkeypatch):
    """Every import of Spark fails."""
    for name in [name for name in sys.modules if name.split(".")[0] == "pyspark"]:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def recommender(settings, no_spark) -> Recommender:
    return Recommender.open(settings, TODAY)


def with_ranker(settings: Settings, **options) -> Settings:
    section = settings.ranker.model_copy(update=options)
    return settings.model_copy(update={"ranker": section})


# Features


@pytest.mark.parametrize("counts", ["of the examples", "counted here"])
def test_features_are_those_of_the_examples_to_the_bit(settings, no_spark, counts):
    """For every consumer, item and moment that was shown on the day."""
    examples = settings.lake.get("examples", TODAY)
    spec = spec_of(examples)
    table = pq.read_table(examples.path / "examples")
    shown = pq.read_table(settings.lake.get("validate", TODAY).path / "impressions")
    shown = shown.sort_by([(name, "ascending") for name in ("time_ms", "consumer_id", "item_id")])
    assert shown["item_id"].to_pylist() == table["item_id"].to_pylist()

    past = past_of(settings, TODAY, serving_on(settings, TODAY).model, spec.labels)
    if counts == "counted here":
        counted = PastCounts(counted_events(past.days, spec.labels), spec.labels)
        past = dataclasses.replace(past, counts=counted)
    rows = shown.select(["consumer_id", "producer_id", "item_id", "time_ms", "ctx_tab"])
    found = inputs_of(str(TODAY), rows, past, spec)
    expected = load_day(settings, examples)
    assert np.isnan(found.numbers).any()
    assert found.space == expected.space
    np.testing.assert_array_equal(found.categories, expected.categories)
    np.testing.assert_array_equal(found.numbers.view(np.int32), expected.numbers.view(np.int32))
    (ours,), (theirs,) = found.batches(len(rows)), expected.batches(len(rows))
    np.testing.assert_array_equal(ours.vectors, theirs.vectors)


def test_a_text_has_the_bucket_that_spark_gives_it(spark):
    """Of every length up to three blocks of the hash, and beyond ASCII."""
    texts = ["x" * n + "yz"[: n % 3] for n in range(100)]
    texts += ["é" * n + "漢字" for n in range(20)] + ["🌲", "\0", " "]
    rows = spark.createDataFrame([(text,) for text in texts], "name string")
    found = rows.selectExpr(f"{bucket_in_spark('name', 16384)} bucket").collect()
    assert [row["bucket"] for row in found] == [bucket(text, 16384) for text in texts]


# Recommendations


def test_the_best_unseen_items_come_first_and_no_producer_follows_itself(recommender):
    consumer = "c1"
    answer = recommender.recommend(consumer, top=50)
    seen = set()
    for partition in recommender.past.days:
        for name in ("impressions", "engagements"):
            table = pq.read_table(partition.path / name)
            seen.update(
                table.filter(pc.equal(table["consumer_id"], consumer))["item_id"].to_pylist()
            )
    every = set(recommender.past.items["item_id"].to_pylist())
    items = [item.item for item in answer.items]
    assert seen
    assert set(items) == every - seen
    assert len(items) == len(set(items)) == answer.candidates
    left = list(answer.items)
    for one, following in pairwise(answer.items):
        left.remove(one)
        others = [item for item in left if item.producer != one.producer]
        if others:
            assert following.score == max(item.score for item in others)
            assert following.producer != one.producer


def test_the_score_is_the_weighted_sum_of_calibrated_probabilities(settings, no_spark):
    weighted = with_ranker(settings, weights={"click": 0.5, "like": 10})
    recommender = Recommender.open(weighted, TODAY)
    assert "label_click" in recommender.serving.calibration.maps
    answer = recommender.recommend("c1", top=5)
    _, probabilities = recommender.scored(answer.inputs)
    for item, row in zip(answer.items, probabilities, strict=True):
        assert list(item.probabilities.values()) == pytest.approx(row.tolist(), rel=1e-6)
        click, like = item.probabilities["click"], item.probabilities["like"]
        assert item.score == pytest.approx(0.5 * click + 10 * like)
    alone = Recommender.open(settings, TODAY).recommend("c1", top=1).items[0]
    assert alone.score == alone.probabilities["click"]


def test_half_is_of_known_producers_and_half_of_near_ones(recommender, monkeypatch):
    """With room for four: two items of producers that it engaged with, two of others."""
    monkeypatch.setattr("jobs.serving.recommending.MOST", 4)
    met = set()
    for consumer in (f"c{n}" for n in range(30)):
        answer = recommender.recommend(consumer)
        origins = [item.origin for item in answer.items]
        known = set()
        for partition in recommender.past.days:
            table = pq.read_table(partition.path / "engagements")
            rows = table.filter(pc.equal(table["consumer_id"], consumer))
            known.update(rows["producer_id"].to_pylist())
        for item in answer.items:
            assert (item.producer in known) or item.origin != "in"
            assert (item.producer not in known) or item.origin != "out"
        assert origins.count("in") <= 2
        assert origins.count("out") <= 2
        met.add(tuple(sorted(origins)))
    assert ("in", "in", "out", "out") in met


def test_a_consumer_of_whom_nothing_is_known_gets_popular_items(recommender):
    answer = recommender.recommend("nobody", top=3)
    assert [item.origin for item in answer.items] == ["popular"] * 3
    assert answer.engagements == 0
    assert (answer.inputs.consumer_rows == -1).all()


def test_nothing_of_the_day_or_later_is_used(settings, no_spark, tmp_path):
    """Without their partitions the answer is the same, but for the profiles of the day itself."""
    early = copied(settings, tmp_path / "home")
    for step in early.lake.steps():
        for day in DAYS[3:]:
            shutil.rmtree(early.lake.home(step, day), ignore_errors=True)
    answers = [Recommender.open(one, TODAY).recommend("c1", top=9) for one in (settings, early)]
    assert answers[0].items == answers[1].items


def test_the_command_shows_every_stage(settings, no_spark, capsys):
    from jobs.terminal import console

    found = run(settings, "c1", TODAY, 3, 12, {"tab": "t1"}, console())
    shown = capsys.readouterr().out
    stages = ("history", "candidates", "features", "scores", "order")
    assert all(stage in shown and stage in found["milliseconds"] for stage in stages)
    assert found["model"] == str(serving_on(settings, TODAY).model.day)
    assert found["items"][0]["item"] in shown


# The page and its JSON


@pytest.fixture
def client(settings, no_spark, monkeypatch):
    """Of a service with the page, without the registry's own."""
    monkeypatch.setattr("jobs.serving.pages.load_settings", lambda: settings)
    loader = FileSystemLoader([registry_pages.TEMPLATES, pages.TEMPLATES])
    monkeypatch.setattr(registry_pages.templates.env, "loader", loader)
    app = FastAPI()
    pages.add(app)
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_the_route_gives_items_and_what_the_mask_of_every_field_adds(client, recommender):
    found = client.get(
        "/v1/recommend", params={"consumer": "c1", "day": str(TODAY), "top": 4}
    ).json()
    items = recommender.recommend("c1", top=4).items
    assert [item["item"] for item in found["items"]] == [item.item for item in items]
    assert [why["item"] for why in found["why"]] == [item.item for item in items]
    for item, why in zip(items, found["why"], strict=True):
        odds = item.probabilities["click"] / (1 - item.probabilities["click"])
        assert why["whole"] == pytest.approx(np.log(odds), abs=1e-4)
        assert why["control"] != pytest.approx(why["whole"], abs=1e-6)
        fields = {*recommender.saved.model.spec.fields, "numbers", "consumer vector"}
        assert why["effects"].keys() >= fields


def test_each_answer_releases_what_was_read_of_the_lake(client, settings, monkeypatch):
    released = []
    monkeypatch.setattr(Folder, "release", lambda place: released.append(place.root))
    for consumer in ("c1", "c2"):
        client.get("/v1/recommend", params={"consumer": consumer, "day": str(TODAY)})
    assert released == [settings.lake.root] * 2


def test_reasons_are_of_the_calibrated_probability(recommender):
    """With a scale of two, every effect is twice as large, and the odds are those of the item."""
    plain, scaled = (
        dataclasses.replace(
            recommender,
            serving=dataclasses.replace(recommender.serving, calibration=Calibration("", maps)),
        )
        for maps in ({}, {"label_click": Platt(2.0, 0.5)})
    )
    answer = scaled.recommend("c1", top=1)
    (before,), (after,) = explain(plain, answer), explain(scaled, answer)
    assert after.effects == pytest.approx({name: 2 * x for name, x in before.effects.items()})
    assert after.control == pytest.approx(2 * before.control + 0.5)
    p = answer.items[0].probabilities["click"]
    assert after.whole == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


def test_the_page_shows_them_as_text_whatever_was_asked_for(client):
    """On the newest day, of an id that would be markup."""
    page = client.get("/recommend", params={"consumer": "<b>c1", "top": 3})
    assert page.status_code == 200
    assert "popular items" in page.text
    assert "Why: click" in page.text
    assert "<b>" not in page.text
    assert str(DAYS[4]) in page.text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"day": str(DAYS[0])}, "The first promotion is on"),
        ({"label": "clik"}, "There is no label"),
    ],
)
def test_what_cannot_be_answered_is_said(client, asked, message):
    for path in ("/recommend", "/v1/recommend"):
        found = client.get(path, params={"consumer": "c1", **asked})
        assert (found.status_code, message in found.text) == (404, True)


# What cannot be answered


def test_a_day_without_a_champion_is_a_named_error(settings):
    with pytest.raises(NotCommitted, match=f"no day before it has a promotion.*{DAYS[0]}"):
        Recommender.open(settings, DAYS[0])
    with pytest.raises(
        NotCommitted, match=f"On {DAYS[0]} there was no champion yet.*Run the first two days"
    ):
        Recommender.open(settings, DAYS[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"clik": 1.0}}, "ranker.weights names 'clik'.*Did you mean click"),
        ({"primary_label": "nothing"}, "ranker.primary_label names 'nothing'.*click, like"),
    ],
)
def test_a_weight_of_a_label_that_does_not_exist_is_a_named_error(settings, options, message):
    with pytest.raises(SettingsError, match=message):
        Recommender.open(with_ranker(settings, **options), TODAY)


def test_an_id_that_no_log_can_have_is_a_named_error(recommender):
    """Half of a pair of surrogates: what a shell passes on for a byte that is not UTF-8."""
    with pytest.raises(EvergreenError, match="cannot be an id"):
        recommender.recommend("c\udcff")


def test_counts_of_other_days_are_not_used(settings, no_spark, tmp_path, monkeypatch):
    """Where a day before has changed since the examples were computed, it is counted again."""
    other = copied(settings, tmp_path / "home")
    model = serving_on(other, TODAY).model
    monkeypatch.setattr("jobs.serving.past.counted_events", lambda *_: "counted again")
    assert past_of(other, TODAY, model, LABELS).counts.counts != "counted again"
    commit_validated(other, DAYS[1], impressions(DAYS[1], 150))
    assert past_of(other, TODAY, model, LABELS).counts.counts == "counted again"


def test_an_unknown_context_is_a_named_error(recommender):
    with pytest.raises(EvergreenError, match=r"no context 'tap'.*They have: tab"):
        recommender.recommend("c1", context={"tap": "1"})


def test_a_profile_column_that_is_gone_is_a_named_error(recommender):
    profiles = dict(recommender.past.profiles)
    profiles["item"] = profiles["item"].drop_columns(["num_length"])
    other = dataclasses.replace(
        recommender, past=dataclasses.replace(recommender.past, profiles=profiles)
    )
    with pytest.raises(EvergreenError, match="'num_item_length'"):
        other.recommend("c1")


# Which ranker, and its calibration


def test_the_promoted_ranker_carries_the_calibration_of_its_last_test(settings):
    """That of the day on which it was promoted, under the role in which it was tested."""
    receipt = settings.lake.get("promote", DAYS[2])
    serving = serving_on(settings, TODAY)
    test = settings.lake.get("evaluate", DAYS[2])
    role = "challenger" if test.facts["challenger"] == receipt.facts["champion"] else "champion"
    assert serving.calibration == calibration_of(test, role)
    assert serving.calibration.day == str(DAYS[2])
    assert test.facts[f"{role}_calibrated_ece_click"] != test.facts[f"{role}_ece_click"]
    assert chosen(settings, str(serving.model.day)).model == serving.model


def test_a_ranker_that_was_never_promoted_is_not_calibrated(settings):
    assert chosen(settings, str(DAYS[3])).calibration.maps == {}
    with pytest.raises(EvergreenError, match="neither 'champion' nor a day"):
        chosen(settings, "gold")


# Rules


@pytest.mark.parametrize(
    ("producers", "order"),
    [("", []), ("a", [0]), ("abc", [0, 1, 2]), ("aab", [0, 2, 1]), ("aaabc", [0, 3, 1, 4, 2])],
)
def test_the_next_item_is_of_another_producer(producers, order):
    scores = np.arange(len(producers), 0.0, -1.0)
    assert best_order(scores, producers, 9) == order
    assert best_order(scores, producers, 2) == order[:2]


def test_weights_do_not_make_a_day_stale():
    """They concern serving only: days that were computed with others stay current."""
    assert RankerSettings(weights={"click": 2}).effective() == RankerSettings().effective()
    assert weights_of(RankerSettings(weights={"like": 2}), LABELS).tolist() == [0, 2]
