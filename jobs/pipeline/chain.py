"""The ranker's chain: which trusted day with impressions follows which, from its first day on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta

from jobs.lake.schema import IMPRESSION_TABLE
from jobs.lake.store import Partition
from jobs.settings import Settings, days_between
from jobs.sources import open_source

# The sections of the settings that shape the result of every step of the ranker.
SETTINGS = ("source", "validation", "matrix", "embedding", "ranker")


def start_day(settings: Settings) -> date | None:
    """The first day of the chain: as set, or else the first day with impressions.

    None for a source that never has any.
    """
    if settings.ranker.start_day:
        return settings.ranker.start_day
    source = open_source(settings.source)
    # A source may begin with days of engagements only (docs/decisions/0002).
    for day in days_between(*source.span()):
        if IMPRESSION_TABLE in source.tables(day):
            return day
    return None


def days_up_to(settings: Settings, day: date) -> list[date]:
    """Every day of the chain's calendar up to `day`, ascending."""
    start = start_day(settings)
    if start is None:
        return []
    return days_between(start, day)  # empty for a day before the start


def rankable(validated: Partition) -> bool:
    """Is this a day that a ranker can learn from: trusted, with at least one impression?"""
    if not validated.facts["trusted"] or not validated.has(IMPRESSION_TABLE):
        return False
    return validated.facts[f"rows_{IMPRESSION_TABLE}"] > 0


def needs_of_previous(
    settings: Settings, day: date, steps: tuple[str, ...]
) -> Iterator[tuple[str, date]]:
    """These steps of the previous day of the chain.

    Which day that is depends on the verdicts of the days before, so those are needed first, newest
    first, until one of them is rankable.
    """
    for earlier in reversed(days_up_to(settings, day - timedelta(days=1))):
        yield ("validate", earlier)
        # Available now: the plan computes each partition before it requests the next.
        if rankable(settings.lake.get("validate", earlier)):
            for step in steps:
                yield (step, earlier)
            return


def previous(settings: Settings, day: date) -> date | None:
    """The newest day of the chain before `day`; None when `day` is the first."""
    for earlier in reversed(days_up_to(settings, day - timedelta(days=1))):
        if rankable(settings.lake.get("validate", earlier)):
            return earlier
    return None


def seed(settings: Settings, name: str, day: date) -> int:
    """A seed for the draws of `name` on `day`; any other name, day or `ranker.seed` has another.

    Derived by hashing, so that a backfilled day draws what its nightly run drew.
    """
    text = f"{settings.ranker.seed}/{name}/{day}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
