"""A number beyond its bound is a broken guardrail, and says so with both numbers."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from embeddings.benchmarks.intervals import Estimate
from jobs.pipeline.guardrails import FACTS, SHOWN, guardrails
from jobs.settings import RankerSettings
from jobs.settings.guardrails import GuardrailSettings
from jobs.steps.gate import Comparison, Contest, decide

HEALTHY = {
    "champion_covers_consumers": 0.9,
    "challenger_covers_consumers": 0.88,
    "champion_covers_producers": 0.5,
    "challenger_covers_producers": 0.52,
    "missing_feature": "num_age",
    "missing_on_day": 0.31,
    "missing_in_training": 0.3,
    "neighbour_overlap_consumers": 0.6,
    "neighbour_overlap_producers": 0.7,
    "champion_operations": 1000.0,
    "challenger_operations": 1200.0,
}
# The name of what is broken -> how, the value of its fact by hand, and what the reason says.
BROKEN = {
    "coverage_loss_consumers": (
        {"challenger_covers_consumers": 0.45},
        0.5,
        ("consumers of 45.0 %", "those of 90.0 %"),
    ),
    "coverage_loss_producers": (
        {"challenger_covers_producers": 0.2},
        0.6,
        ("producers of 20.0 %", "those of 50.0 %"),
    ),
    "missing_change": (
        {"missing_on_day": 1.0},
        0.7,
        ("'num_age'", "100.0 % of the day's", "30.0 % of the newest"),
    ),
    "neighbour_overlap_consumers": (
        {"neighbour_overlap_consumers": 0.02},
        0.02,
        ("nearest consumers", "2.0 %", "is 0.05"),
    ),
    "neighbour_overlap_producers": (
        {"neighbour_overlap_producers": 0.001},
        0.001,
        ("nearest producers", "0.1 %", "is 0.05"),
    ),
    "operations_ratio": (
        {"challenger_operations": 10_000.0},
        10,
        ("10,000 operations", "champion 1,000", "is 3"),
    ),
}
MET = Contest(date(2024, 1, 3), "click", champion="2024-01-01", challenger="2024-01-02")


def judged(facts: dict, low: float = -0.01, **limits):
    return guardrails(GuardrailSettings(**limits), facts, low)


def compared(low: float, value: float, high: float) -> Comparison:
    draws = np.linspace(low, high, 1001)
    even = Estimate.from_draws(0.0, np.linspace(-0.01, 0.01, 1001))
    return Comparison(Estimate.from_draws(value, draws), even)


def test_a_healthy_challenger_breaks_none():
    found = judged(HEALTHY)
    assert [each.name for each in found] == list(SHOWN)
    assert all(each.holds for each in found)
    decision = decide(MET, compared(-0.01, 0.0, 0.01), RankerSettings(), found)
    assert decision.champion == MET.challenger


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_guardrail_keeps_the_champion_and_is_named_with_both_numbers(name):
    """Whatever the challenger's AUC."""
    change, value, words = BROKEN[name]
    found = judged(HEALTHY | change)
    broken = [each for each in found if not each.holds]
    assert [each.name for each in broken] == [name]
    assert broken[0].value == pytest.approx(value)
    decision = decide(MET, compared(0.1, 0.2, 0.3), RankerSettings(), found)
    assert decision.champion == MET.champion
    for text in (*words, f"evergreen ranker promote {MET.challenger}", "significantly better"):
        assert text in decision.why
    by_hand = decide(MET, compared(0.1, 0.2, 0.3), RankerSettings(promotion="by hand"), found)
    assert (by_hand.champion, by_hand.proposed) == (MET.champion, "")


@pytest.mark.parametrize(("low", "promoted"), [(-0.019, True), (-0.021, False)])
def test_the_auc_that_may_be_lost_is_bounded_by_the_interval(low, promoted):
    """With a bound of 0.02; the default of 1 leaves it to significance."""
    found = judged(HEALTHY, low, max_auc_loss=0.02)
    decision = decide(MET, compared(low, 0.0, 0.01), RankerSettings(), found)
    assert (decision.champion == MET.challenger) == promoted
    assert all(each.holds for each in judged(HEALTHY, low))


def test_a_worse_challenger_is_refused_for_its_auc_alone():
    found = judged(HEALTHY | {"challenger_operations": 10_000.0})
    decision = decide(MET, compared(-0.3, -0.2, -0.1), RankerSettings(), found)
    assert decision.champion == MET.champion
    assert "significantly worse" in decision.why
    assert "guardrail" not in decision.why


def test_what_was_not_measured_is_not_judged():
    assert judged({}, np.nan) == []
    without_a_vector = HEALTHY | {"champion_covers_consumers": 0.0, "champion_operations": 0.0}
    names = [each.name for each in judged(without_a_vector)]
    assert not {"coverage_loss_consumers", "operations_ratio"} & set(names)


def test_every_number_is_declared_and_has_a_title():
    assert {fact.name for fact in FACTS} == {"broken_guardrails", *SHOWN}
