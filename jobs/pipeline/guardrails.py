"""What the gate asks of a challenger besides its figures: the bounds of [guardrails], judged.

Each has a measured number and a bound. Where a number could not be measured, such as the coverage
of a version that is gone, the guardrail is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings.facts import Fact
from jobs.settings.guardrails import GuardrailSettings

FACTS = (
    Fact("broken_guardrails", "which kept the challenger from being promoted; empty for none"),
    Fact(
        "auc_loss_at_most",
        "how much worse the challenger could be, by the lower end of the interval",
        "AUC",
        better="lower",
    ),
    Fact(
        "coverage_loss_consumers",
        "by what part fewer rows have a vector of their consumer in the challenger's version than "
        "in the champion's",
        "share",
        better="lower",
    ),
    Fact("coverage_loss_producers", "the same of producers", "share", better="lower"),
    Fact(
        "missing_change",
        "largest change of the share of missing values of a feature since the training",
        "share",
        better="lower",
    ),
    Fact(
        "neighbour_overlap_consumers",
        "neighbours that the versions of both models share",
        "share",
        better="higher",
    ),
    Fact("neighbour_overlap_producers", "the same of producers", "share", better="higher"),
    Fact(
        "operations_ratio",
        "operations of the challenger for one row, over the champion's",
        better="lower",
    ),
)
BROKEN = FACTS[0].name
# How a person reads them: fact -> title and format.
SHOWN = {
    "auc_loss_at_most": ("AUC lost at most", "+.4f"),
    "coverage_loss_consumers": ("coverage of consumers lost", "+.1%"),
    "coverage_loss_producers": ("coverage of producers lost", "+.1%"),
    "missing_change": ("change of missing values", ".1%"),
    "neighbour_overlap_consumers": ("neighbours of consumers kept", ".1%"),
    "neighbour_overlap_producers": ("neighbours of producers kept", ".1%"),
    "operations_ratio": ("operations, times", ".2f"),
}


@dataclass(frozen=True)
class Guardrail:
    """One judged number.

    name: of its fact. at_least: is the bound the smallest good value, or the largest? sentence:
    with the number and what it is compared with. option: of [guardrails], which has the bound.
    """

    name: str
    value: float
    bound: float
    sentence: str
    option: str
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def refusal(self) -> str:
        """The sentence of a broken one, with the bound."""
        return f"{self.sentence} (guardrails.{self.option} is {self.bound:g})"


def guardrails(
    limits: GuardrailSettings, test: Mapping[str, Any], auc_low: float
) -> list[Guardrail]:
    """Every guardrail that can be judged.

    test: the facts of `evaluate`. auc_low: the lower end of the interval of the difference in AUC;
    NaN where it is undefined.
    """
    return [
        *auc_loss(auc_low, limits),
        *coverage_loss(test, "consumers", limits),
        *coverage_loss(test, "producers", limits),
        *missing_change(test, limits),
        *neighbour_overlap(test, "consumers", limits),
        *neighbour_overlap(test, "producers", limits),
        *operations_ratio(test, limits),
    ]


def shown(decision: Mapping[str, Any]) -> dict[str, str]:
    """The judged numbers of a decision as texts, by title. decision: the facts of `gate`."""
    texts = {}
    for name, (title, form) in SHOWN.items():
        if name in decision:
            texts[title] = format(decision[name], form).replace("%", " %")
    return texts


def broken(decision: Mapping[str, Any]) -> list[str]:
    """The titles of the guardrails that were broken. decision: the facts of `gate`."""
    names = decision.get(BROKEN, "")
    return [SHOWN[name][0] for name in names.split(", ") if name in SHOWN]


def auc_loss(low: float, limits: GuardrailSettings) -> list[Guardrail]:
    if np.isnan(low):
        return []
    sentence = f"its AUC could be {-low:.4f} lower"
    return [Guardrail("auc_loss_at_most", -low, limits.max_auc_loss, sentence, "max_auc_loss")]


def coverage_loss(
    test: Mapping[str, Any], entities: str, limits: GuardrailSettings
) -> list[Guardrail]:
    before, after = pair(test, f"covers_{entities}")
    if not before:
        return []
    sentence = (
        f"its version of the embedding has vectors for the {entities} of {after:.1%} of the day's "
        f"rows, the champion's for those of {before:.1%}"
    ).replace("%", " %")
    loss = 1 - after / before
    option = "max_coverage_loss"
    name = f"coverage_loss_{entities}"
    return [Guardrail(name, loss, limits.max_coverage_loss, sentence, option)]


def missing_change(test: Mapping[str, Any], limits: GuardrailSettings) -> list[Guardrail]:
    if "missing_feature" not in test:
        return []
    now, before = test["missing_on_day"], test["missing_in_training"]
    sentence = (
        f"'{test['missing_feature']}' has no value in {now:.1%} of the day's rows, and in "
        f"{before:.1%} of the newest that it was trained on"
    ).replace("%", " %")
    change, option = abs(now - before), "max_missing_change"
    return [Guardrail("missing_change", change, limits.max_missing_change, sentence, option)]


def neighbour_overlap(
    test: Mapping[str, Any], entities: str, limits: GuardrailSettings
) -> list[Guardrail]:
    name = f"neighbour_overlap_{entities}"
    if name not in test:
        return []
    share = test[name]
    sentence = (
        f"of the nearest {entities} in the champion's version of the embedding, its own has "
        f"{share:.1%}"
    ).replace("%", " %")
    option = "min_neighbour_overlap"
    return [Guardrail(name, share, limits.min_neighbour_overlap, sentence, option, at_least=True)]


def operations_ratio(test: Mapping[str, Any], limits: GuardrailSettings) -> list[Guardrail]:
    before, after = pair(test, "operations")
    if not before:
        return []
    sentence = f"it needs {after:,.0f} operations for a row, the champion {before:,.0f}"
    ratio, option = after / before, "max_operations_ratio"
    return [Guardrail("operations_ratio", ratio, limits.max_operations_ratio, sentence, option)]


def pair(test: Mapping[str, Any], name: str) -> tuple[float, float]:
    """The figure of champion and challenger; 0 for one that was not measured."""
    return test.get(f"champion_{name}", 0.0), test.get(f"challenger_{name}", 0.0)
