"""`ranker.retrain = "when it pays"`: days that do without a training, and what the others know."""

from __future__ import annotations

import json
from datetime import date

import pytest
from ranker_lake import DAYS, commit_days_with_examples, copied, ranker_settings

from jobs.errors import EvergreenError, NotCommitted
from jobs.lake.store import Partition
from jobs.pipeline import plan, rulings
from jobs.pipeline.retraining import LOSSES, Loss, Outlook, losses_until, outlook, save_losses
from jobs.serving.champion import chosen
from jobs.settings import RankerSettings, Settings
from jobs.steps import evaluate, gate, promote, train

CHAIN = (evaluate, train, gate, promote)


def run_days(settings: Settings, days: list[date], steps=CHAIN) -> None:
    for day in days:
        for step in steps:
            step.run(None, settings, day)


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Settings:
    """Six days; every age that was seen once is worth no training."""
    home = tmp_path_factory.mktemp("budget") / "home"
    settings = ranker_settings(home, retrain="when it pays", retrain_delta=1.0)
    commit_days_with_examples(settings, DAYS)
    run_days(settings, DAYS)
    return settings


def facts(settings: Settings, step: str, n: int) -> dict:
    return settings.lake.get(step, DAYS[n]).facts


def test_an_age_is_skipped_once_its_loss_was_seen_and_a_new_age_is_tried(lake):
    """Day 3 is the first on which a champion met a challenger: one day's loss is known from then.

    Two days' loss is known when the model after a skipped day has been tested.
    """
    skipped = [n for n in range(6) if "skipped" in facts(lake, "train", n)]
    assert skipped == [3, 5]
    assert [facts(lake, "train", n)["newest_model"] for n in range(6)] == [
        str(DAYS[n]) for n in (0, 1, 2, 2, 4, 4)
    ]


def test_the_expected_loss_is_the_mean_of_the_differences_that_gates_have_seen(lake):
    known = facts(lake, "gate", 2)
    assert facts(lake, "train", 3)["expected_loss"] == known["difference"]
    losses = json.loads((lake.lake.get("train", DAYS[3]).path / LOSSES).read_text())
    assert losses == [{"day": str(DAYS[2]), "age": 1, "loss": known["difference"]}]
    assert f"{known['difference']:.4f}" in facts(lake, "train", 3)["skipped"]


def test_after_a_skipped_day_the_champion_is_tested_alone_and_stays(lake):
    test, decision = facts(lake, "evaluate", 4), facts(lake, "gate", 4)
    assert test["champion"] == facts(lake, "gate", 3)["champion_after"]
    assert "challenger" not in test
    assert decision["champion_after"] == test["champion"]
    assert decision["why"].endswith(facts(lake, "train", 3)["skipped"])
    assert facts(lake, "promote", 3)["challenger"] == ""
    assert facts(lake, "promote", 4)["challenger"] == str(DAYS[4])


def test_a_skipped_day_has_no_model_that_could_be_promoted_or_exported(lake):
    with pytest.raises(EvergreenError, match=f"There is no model of {DAYS[3]}"):
        rulings.rule(lake, DAYS[3])
    with pytest.raises(NotCommitted, match=f"No ranker was trained on {DAYS[3]}. The model of"):
        chosen(lake, str(DAYS[3]))


def test_days_in_any_order_decide_the_same(lake, tmp_path):
    """The last day alone is asked for: what it needs is computed before it."""
    settings = copied(lake, tmp_path / "home")
    for step in ("train", "evaluate", "gate", "promote"):
        for day in DAYS:
            settings.lake.remove(settings.lake.get(step, day))
    from jobs.pipeline.running import ensure

    found = ensure(settings, "train", DAYS[5], lambda: pytest.fail("no Spark is needed"))
    assert found.partition.digest == lake.lake.get("train", DAYS[5]).digest
    assert plan.current(settings, "train", DAYS[4]).digest == lake.lake.get("train", DAYS[4]).digest


def test_what_is_recorded_is_declared_where_it_may_be(lake):
    declared = {fact.name for fact in train.chosen_facts(lake)}
    assert declared == {"skipped", "newest_model", "expected_loss"}
    assert declared <= facts(lake, "train", 3).keys()
    assert train.chosen_facts(ranker_settings_of_daily()) == ()


def test_daily_is_the_default_and_makes_no_older_home_stale():
    assert RankerSettings().retrain == "daily"
    digest = RankerSettings().effective()
    assert not {"retrain", "retrain_delta"} & digest.keys()
    assert RankerSettings(retrain_delta=0.5).effective() == digest
    changed = RankerSettings(retrain="when it pays").effective()
    assert changed["retrain_delta"] == RankerSettings().retrain_delta


@pytest.mark.parametrize(
    ("expected", "newest", "pays"),
    [
        (None, None, True),  # no model yet
        (None, DAYS[0], True),  # no ranker has been that old
        (0.01, DAYS[0], True),  # as large as δ
        (0.0099, DAYS[0], False),
        (-0.02, DAYS[0], False),  # older rankers were better
    ],
)
def test_a_training_pays_unless_less_than_delta_is_expected_to_be_lost(expected, newest, pays):
    assert Outlook(DAYS[1], 0.01, newest, expected, []).pays is pays


@pytest.mark.parametrize(
    ("decision", "added"),
    [
        ({"champion_before": "2024-01-01", "challenger": "2024-01-04", "difference": 0.5}, [3]),
        ({"champion_before": "2024-01-01", "challenger": ""}, []),  # a skipped day's successor
        ({"champion_before": "", "challenger": "2024-01-04"}, []),  # unopposed
        ({"champion_before": "2024-01-01", "challenger": "2024-01-04"}, []),  # AUC is undefined
    ],
)
def test_a_loss_is_known_where_two_models_met(tmp_path, decision, added):
    save_losses(tmp_path, [Loss("2024-01-02", 1, 0.25)])
    trained = Partition("train", DAYS[3], tmp_path, "", {}, {}, "", {})
    losses = losses_until(Partition("gate", DAYS[4], tmp_path, "", decision, {}, "", {}), trained)
    assert [loss.age for loss in losses] == [1, *added]


def test_every_day_is_trained_without_a_look_at_the_past():
    settings = ranker_settings_of_daily()
    assert outlook(settings, {}, DAYS[4]) == Outlook(DAYS[4], settings.ranker.retrain_delta)


def ranker_settings_of_daily() -> Settings:
    return Settings.model_construct(ranker=RankerSettings())
