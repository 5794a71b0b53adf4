"""The ranker's chain: which trusted day with impressions follows which, from its first day on."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

from jobs.lake.schema import IMPRESSION_TABLE
from jobs.lake.store import Partition
from jobs.parts import LANDING
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import Reads, first_day, trusted, window
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
    last = open_source(settings).span()[1]
    # A source may begin with days of engagements only (docs/decisions/0002).
    for day in days_between(first_day(settings), last):
        if has_impressions(settings, day):
            return day
    return None


def has_impressions(settings: Settings, day: date) -> bool:
    """Has the log impressions of a day, or had it some that were landed?"""
    source = open_source(settings)
    if source.files(day):
        return IMPRESSION_TABLE in source.tables(day)
    landed = settings.lake.find(LANDING, day)
    return landed is not None and landed.has(IMPRESSION_TABLE)


def days_up_to(settings: Settings, day: date) -> list[date]:
    """Every day of the chain's calendar up to `day`, ascending."""
    start = start_day(settings)
    if start is None:
        return []
    return days_between(start, day)  # empty for a day before the start


def days_counted(settings: Settings, day: date) -> list[date]:
    """The days of the window before `day`, of which a ranker knows the counts."""
    yesterday = day - timedelta(days=1)
    if yesterday < first_day(settings):
        return []
    return window(settings, yesterday, settings.ranker.window_days)


def trusted_days_counted(settings: Settings, day: date) -> list[Partition]:
    """The verdicts on those of them that are trusted, oldest first."""
    days = []
    for earlier in days_counted(settings, day):
        if trusted(settings.lake.find("validate", earlier)):
            days.append(settings.lake.get("validate", earlier))
    return days


def rankable(verdict: Partition | None) -> bool:
    """Is this a day that a ranker can learn from: trusted, with at least one impression?

    verdict: the day's partition of `validate`; None where it could not be computed.
    """
    if verdict is None or not trusted(verdict) or not verdict.has(IMPRESSION_TABLE):
        return False
    return verdict.facts[f"rows_{IMPRESSION_TABLE}"] > 0


def needs_of_previous(settings: Settings, day: date) -> Needs[Partition | None]:
    """The gate's decision on the previous day of the chain; None when `day` is the first.

    The previous day is the newest rankable one with a decision: one that could not be decided is
    passed over, as a refused one is. Which day that is depends on the days before, so they are
    needed newest first.
    """
    for earlier in reversed(days_up_to(settings, day - timedelta(days=1))):
        if not (yield optional("validate", earlier)):
            continue
        if not rankable(settings.lake.get("validate", earlier)):
            continue
        if (yield optional("gate", earlier)):
            return settings.lake.get("gate", earlier)
    return None


def previous(read: Reads) -> Partition | None:
    """The gate's decision on the previous day, as `needs_of_previous` has named it."""
    for (step, _), partition in read.items():
        if step == "gate":
            return partition
    return None


def has_model(trained: Partition) -> bool:
    """Did the day train a ranker, or do without one? trained: its partition of `train`."""
    return not trained.facts.get("skipped")


def seed(settings: Settings, name: str, day: date) -> int:
    """A seed for the draws of `name` on `day`; any other name, day or `ranker.seed` has another.

    Derived by hashing, so that a backfilled day draws what its nightly run drew.
    """
    text = f"{settings.ranker.seed}/{name}/{day}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
