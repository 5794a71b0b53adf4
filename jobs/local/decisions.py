"""Every decision about the ranker, for a page: what served from each day on, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.lake.store import Partition
from jobs.pipeline import guardrails
from jobs.pipeline.rulings import decisions
from jobs.settings import Settings

WIDTH = 140  # of the picture of an interval, in pixels
MARGIN = 4  # pixels at either end


@dataclass(frozen=True)
class Interval:
    """An interval on an axis that all days share, in pixels from its left end."""

    low: float
    value: float
    high: float
    zero: float


@dataclass(frozen=True)
class Row:
    """A decision. facts: as the step `gate` declares them. picture: of the difference in AUC; None
    where no two models were compared. guardrails: the judged numbers, by title; broken: titles.
    """

    day: str
    facts: dict[str, Any]
    picture: Interval | None
    guardrails: dict[str, str]
    broken: list[str]


def rows(settings: Settings) -> list[Row]:
    """All decided days, the newest first."""
    made = decisions(settings)
    widest = max((reach(decision) for decision in made), default=0.0) or 1.0
    found = []
    for one in reversed(made):
        judged, broken = guardrails.shown(one.facts), guardrails.broken(one.facts)
        found.append(Row(str(one.day), one.facts, picture(one, widest), judged, broken))
    return found


def reach(decision: Partition) -> float:
    """How far from zero the interval of a decision goes; 0 without one."""
    bounds = (decision.facts.get(f"difference_{end}", 0.0) for end in ("low", "high"))
    return max(map(abs, bounds))


def picture(decision: Partition, widest: float) -> Interval | None:
    """The interval of the difference, on an axis from -widest to +widest."""
    facts = decision.facts
    if "difference_low" not in facts or "difference_high" not in facts:
        return None

    def place(value: float) -> float:
        return round(WIDTH / 2 + (WIDTH / 2 - MARGIN) * value / widest, 1)

    ends = (facts["difference_low"], facts["difference"], facts["difference_high"], 0.0)
    return Interval(*map(place, ends))
