"""Which day follows which in the ranker's chain: trusted days with impressions, from its first day on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta

from jobs.lake.schema import IMPRESSION_TABLE
from jobs.lake.store import Partition
from jobs.settings import Settings, days_between
from jobs.sources import open_source

SETTINGS = (
    "source",
    "validation",
    "matrix",
    "embedding",
    "ranker",
)  # shape the result of every step of the ranker


def start_day(settings: Settings) -> date | None:
    """The first day of the chain: as set, or the first day with impressions; None for a source that never has any."""
    if settings.ranker.start_day:
        return settings.ranker.start_day
    source = open_source(settings)
    return next(
        (d for d in days_between(*source.span()) if IMPRESSION_TABLE in source.tables(d)), None
    )


def days_up_to(settings: Settings, day: date) -> list[date]:
    """Every day of the chain's calendar up to `day`, ascending."""
    start = start_day(settings)
    return days_between(start, day) if start and start <= day else []


def rankable(validated: Partition) -> bool:
    """Is this a day that a ranker can learn from?"""
    return bool(validated.facts["trusted"]) and validated.has(IMPRESSION_TABLE)


def needs_of_previous(
    settings: Settings, day: date, steps: tuple[str, ...]
) -> Iterator[tuple[str, date]]:
    """These steps of the previous day of the chain; which that is shows as days are validated, newest first."""
    for earlier in reversed(days_up_to(settings, day - timedelta(days=1))):
        yield ("validate", earlier)
        if rankable(settings.lake.get("validate", earlier)):
            yield from ((step, earlier) for step in steps)
            return


def previous(settings: Settings, day: date) -> date | None:
    """The newest day of the chain before `day`; None when it is the first."""
    before = reversed(days_up_to(settings, day - timedelta(days=1)))
    return next((d for d in before if rankable(settings.lake.get("validate", d))), None)


def seed(settings: Settings, name: str, day: date) -> int:
    """A seed of its own for every draw: from (settings, name, day)."""
    text = f"{settings.ranker.seed}/{name}/{day}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
