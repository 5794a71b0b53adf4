"""Figures in words: intervals, whether one shows anything, and the sentences for a reader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embeddings.benchmarks.intervals import Estimate

WEEK = 7  # days, the age that sentences are about where the days allow it


def interval(estimate: Estimate, digits: int = 4) -> str:
    return f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def number(estimate: Estimate, digits: int = 4) -> str:
    return f"{estimate.value:.{digits}f} {interval(estimate, digits)}"


def percent(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def is_loss(estimate: Estimate) -> bool:
    """Is the whole interval above zero?"""
    return bool(estimate.low > 0)


def contains_zero(estimate: Estimate) -> bool:
    return bool(estimate.low <= 0 <= estimate.high)


def difference(estimate: Estimate, what: str) -> str:
    """A loss of `what`, or in words that none can be shown, or that it is a gain."""
    if np.isnan(estimate.value):
        return f"{what} is not defined on these days"
    if contains_zero(estimate):
        return f"no loss of {what} can be shown: {number(estimate)} contains zero"
    if is_loss(estimate):
        return f"{number(estimate)} of {what} is lost"
    return f"{what} is higher by {number(negative(estimate))}"


def negative(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def days(age: int) -> str:
    return f"{age} day" if age == 1 else f"{age} days"


@dataclass(frozen=True)
class Remedy:
    """What a cheaper refresh wins back. share: of the loss; cost: share of the whole cost."""

    name: str
    share: Estimate
    cost: float


@dataclass(frozen=True)
class Whole:
    """What a fresh one is worth, in units of the loss. name: as in "5 % of NAME"."""

    name: str
    value: float

    @classmethod
    def of_auc(cls, auc: float) -> Whole:
        """An AUC of 0.5 is that of no ranker at all."""
        return cls("its lead over chance", auc - 0.5)


def sentence(age: int, loss: Estimate, what: str, whole: Whole, remedy: Remedy | None) -> str:
    """What is lost after some days without a refresh, and what a cheaper one wins back."""
    text = f"After {days(age)} without a refresh, {difference(loss, what)}"
    if not is_loss(loss):
        return f"{text}."
    text += f" ({loss.value / whole.value:.1%} of {whole.name})"
    if remedy is None:
        return f"{text}."
    if contains_zero(remedy.share):
        back = f"nothing that could be shown ({percent(remedy.share)} of it)"
    else:
        back = f"{percent(remedy.share)} of it"
    cost = f"{remedy.cost:.0%} of the cost, in CPU seconds of the fits alone"
    return f"{text}; {remedy.name} alone wins back {back} at {cost}."


def size(n_bytes: float) -> str:
    """Bytes in the largest unit that they fill."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"
