"""Weeks, from Monday to Sunday: a week is named by its last day, after which it is known."""

from __future__ import annotations

from datetime import date, timedelta

from jobs.errors import EvergreenError, SettingsError
from jobs.pipeline.plan import first_day
from jobs.settings import Settings
from jobs.settings.words import WordsSettings

DAY = timedelta(days=1)
WEEK = 7 * DAY


def week_of(day: date) -> date:
    """The Sunday of the week that a day is in."""
    return day + timedelta(days=6 - day.weekday())


def require_sunday(day: date) -> None:
    """Raises EvergreenError for a day that names no week."""
    if week_of(day) != day:
        raise EvergreenError(
            f"{day} names no week: the steps of words run by week, which is named by its last "
            f"day. Use {week_of(day)}."
        )


def weeks_between(first: date, last: date) -> list[date]:
    """The Sundays of all weeks that have a day from first to last."""
    weeks = [week_of(first)]
    while weeks[-1] < last:
        weeks.append(weeks[-1] + WEEK)
    return weeks


def first_week(settings: Settings) -> date:
    """The first week whose words are learned: the space of all later ones begins with it.

    A log that has lost its oldest files since does not move it.
    """
    return week_of(words_of(settings).first_day or first_day(settings))


def earlier_week(settings: Settings, week: date, weeks: int) -> list[date]:
    """The week so many weeks before; none where that is before the first one."""
    earlier = week - weeks * WEEK
    return [earlier] if earlier >= first_week(settings) else []


def words_of(settings: Settings) -> WordsSettings:
    """The section [words]. Raises SettingsError where there is none."""
    if settings.words is None:
        raise SettingsError(
            "The settings have no section [words], which says where the texts are: add one, such "
            'as\n[words]\npath = "tweets/*.jsonl"'
        )
    return settings.words
