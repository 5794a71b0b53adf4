"""`ranker.warm_start`: from which model a day goes on, which days it reads, and what is stale."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from ranker_lake import (
    DAYS,
    commit_days_with_examples,
    commit_examples,
    commit_validated,
    copied,
    impressions,
    publish_version,
    ranker_settings,
)

from jobs.lake.store import Partition
from jobs.pipeline.plan import current, freshness
from jobs.pipeline.running import ensure
from jobs.pipeline.warm_start import judged
from jobs.settings import RankerSettings, Settings
from jobs.steps import evaluate, gate, promote, train
from models.admission import FILE, Seen
from models.store import load

# Of 24 items, each is shown in 8 of a day's 200 rows on average.
WARM = {"warm_start": True, "admit_after": 9, "evict_after_days": 2}


def run_days(settings: Settings, days: list[date], steps=(evaluate, train, gate, promote)) -> None:
    for day in days:
        for step in steps:
            step.run(None, settings, day)


def facts(settings: Settings, n: int) -> dict:
    return settings.lake.get("train", DAYS[n]).facts


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Settings:
    """Four days of the chain, each from the model of the day before."""
    settings = ranker_settings(tmp_path_factory.mktemp("warm") / "home", **WARM)
    commit_days_with_examples(settings, DAYS[:4])
    run_days(settings, DAYS[:4])
    return settings


def test_a_day_reads_its_own_rows_and_the_model_before_it(lake):
    first, second = facts(lake, 0), facts(lake, 1)
    assert (first["started_from"], first["started_anew"]) == (
        "none",
        "no day of the window before has a model",
    )
    assert (second["started_from"], second["rows"], second["days"]) == (str(DAYS[0]), 200, 1)
    read = [*(f"validate/{day}" for day in DAYS[:2]), f"train/{DAYS[0]}", f"examples/{DAYS[1]}"]
    assert sorted(lake.lake.get("train", DAYS[1]).inputs) == sorted(read)


def test_its_models_are_tested_and_compared_as_any_other(lake):
    decision = lake.lake.get("gate", DAYS[3]).facts
    assert (decision["challenger"], "difference" in decision) == (str(DAYS[2]), True)


def test_vectors_are_kept_admitted_and_evicted_and_counted(lake):
    """The facts are those of the rows of the tables that were saved, day by day."""
    own = 0
    for n in range(4):
        partition = lake.lake.get("train", DAYS[n])
        model = load(partition.path).model
        assert partition.facts["kept"] + partition.facts["evicted"] == own
        own = partition.facts["kept"] + partition.facts["admitted"]
        assert model.fields.table.num_embeddings == own + len(model.spec.categorical)
        seen = Seen.load(partition.path, model.spec)
        assert int((seen.rows >= WARM["admit_after"]).sum()) == own
    assert facts(lake, 1)["admitted"] > 0


def test_days_in_any_order_give_the_same_models(lake, tmp_path):
    """The last one alone is asked for."""
    settings = copied(lake, tmp_path / "home")
    for day in DAYS[:4]:
        settings.lake.remove(settings.lake.get("train", day))
    found = ensure(settings, "train", DAYS[3], lambda: pytest.fail("no Spark is needed"))
    assert found.partition.digest == lake.lake.get("train", DAYS[3]).digest
    assert current(settings, "train", DAYS[1]).digest == lake.lake.get("train", DAYS[1]).digest


def test_a_change_of_an_early_day_makes_every_later_model_stale(lake, tmp_path):
    settings = copied(lake, tmp_path / "home")
    settings.lake.remove(settings.lake.get("examples", DAYS[0]))
    commit_examples(settings, DAYS[0], missing=True)
    verdict = freshness(settings).judge("train", DAYS[3])
    assert "computed again, with another result" in verdict.why
    assert verdict.because == f"examples/{DAYS[0]}"


def test_a_day_without_a_model_is_passed_over(tmp_path):
    """The next one reads the rows of both."""
    settings = ranker_settings(tmp_path / "home", **WARM)
    for day in (DAYS[0], DAYS[2]):
        commit_validated(settings, day, impressions(day))
        publish_version(settings, day)
        commit_examples(settings, day)
        if day == DAYS[0]:
            commit_validated(settings, DAYS[1], None)
    train.run(None, settings, DAYS[0])
    train.run(None, settings, DAYS[2])
    assert (facts(settings, 2)["started_from"], facts(settings, 2)["days"]) == (str(DAYS[0]), 1)


def test_a_day_that_did_without_a_training_is_passed_over(tmp_path):
    """With `retrain = "when it pays"`: its rows are learned on the next day that trains."""
    settings = ranker_settings(tmp_path / "home", **WARM, retrain="when it pays", retrain_delta=1.0)
    commit_days_with_examples(settings, DAYS[:5])
    run_days(settings, DAYS[:5])
    assert "skipped" in facts(settings, 3)
    assert (facts(settings, 4)["started_from"], facts(settings, 4)["rows"]) == (str(DAYS[2]), 400)


def test_a_new_space_is_trained_anew_on_the_window(tmp_path):
    """As without a warm start: the older days without their vectors."""
    settings = ranker_settings(tmp_path / "home", warm_start=True)
    for n, day in enumerate(DAYS[:4]):
        commit_validated(settings, day, impressions(day))
        publish_version(settings, day, space="author-s" if n < 2 else "author-new")
        commit_examples(settings, day)
    run_days(settings, DAYS[:4], steps=(train,))
    assert [facts(settings, n)["started_from"] for n in range(3)] == [
        "none",
        str(DAYS[0]),
        str(DAYS[1]),
    ]
    anew = facts(settings, 3)
    assert (anew["started_from"], anew["days"], anew["rows"]) == ("none", 4, 800)
    assert "reads vectors of space 'author-s'" in anew["started_anew"]
    # Where every bucket has a vector, there is nothing else to keep.
    assert FILE not in settings.lake.get("train", DAYS[3]).files


@pytest.mark.parametrize(
    ("model", "examples", "why"),
    [
        ({"features": "a", "space": "s"}, "s", ""),
        ({"features": "a", "space": ""}, "s", ""),
        ({"features": "a", "space": "s"}, "", ""),
        ({"features": "b", "space": "s"}, "s", "reads other features than 2024-01-02 has"),
        ({"features": "a", "space": "s"}, "t", "vectors of space 's', those of 2024-01-02 are in"),
    ],
)
def test_a_model_fits_examples_of_its_features_and_its_space(model, examples, why):
    trained = Partition("train", DAYS[0], Path(), "", model, {}, "", {})
    shown = Partition(
        "examples", DAYS[1], Path(), "", {"space": examples}, {"features.json": "a"}, "", {}
    )
    begun = judged(trained, shown)
    assert (begun.model is None) == bool(why)
    assert why in begun.why


def test_it_is_off_by_default_and_makes_no_older_home_stale():
    plain = RankerSettings().effective()
    assert not {"admit_after", "warm_start", "warm_rate", "evict_after_days"} & plain.keys()
    assert RankerSettings(warm_rate=0.1, evict_after_days=3).effective() == plain
    warm = RankerSettings(warm_start=True, evict_after_days=3).effective()
    assert warm.keys() - plain.keys() == {"warm_start", "warm_rate"}
    assert "evict_after_days" in RankerSettings(**WARM).effective()


def test_what_is_recorded_is_declared(lake):
    declared = {fact.name for fact in train.chosen_facts(lake)}
    assert declared - {"started_anew"} <= facts(lake, 1).keys()
