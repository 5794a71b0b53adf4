"""When a day runs: at one time of the clock in the log's time zone, after the day has ended.

The DAG files are parsed all the time, so this module imports nothing that is slow to import.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

WATCH_H = 6  # hours after the daily run by which its day should be complete
YEARS_AHEAD = 10  # whose changes of summer time are looked up; they keep their hours for longer
MINUTES = 24 * 60  # of a day


def daily_cron(timezone: str, lateness_h: float, year: int | None = None) -> str:
    """The cron expression of the daily run, `minute hour * * *`."""
    at = run_time(timezone, lateness_h, year)
    return f"{at.minute} {at.hour} * * *"


def watch_cron(timezone: str, lateness_h: float, year: int | None = None) -> tuple[str, int]:
    """The cron expression of the watch, and the offset of the day that should be complete by then.

    The offset is in runs: -1 is the day that has just ended, -2 the day before it.
    """
    due_h = lateness_h + WATCH_H
    days_later = int(due_h // 24)
    return daily_cron(timezone, due_h % 24, year), -1 - days_later


def weekly_cron(timezone: str, lateness_h: float, year: int | None = None) -> str:
    """The cron expression of what runs once a week: after the Sunday, at the time of the watch.

    That is on Monday, or on Tuesday where a day is complete so late.
    """
    daily, offset = watch_cron(timezone, lateness_h, year)
    minute, hour, *_ = daily.split()
    return f"{minute} {hour} * * {-offset}"


def run_time(timezone: str, lateness_h: float, year: int | None = None) -> time:
    """The time at which the day before runs: `lateness_h` after midnight, on the zone's clock.

    On the day on which summer time begins, the clock skips an hour. Airflow's timetable takes a run
    in that hour for the day itself, which has not ended: it would lose the day before. So a time
    that is skipped on any day of the next years is moved to the first one after it that never is,
    or, where the day ends in between, to the last one before. year: the first year; default: now.
    """
    zone = ZoneInfo(timezone)
    changes = days_of_change(zone, year or datetime.now(UTC).year)
    wanted = min(round(lateness_h * 60), MINUTES - 1)
    for minute in (*range(wanted, MINUTES), *range(wanted - 1, -1, -1)):
        at = time(minute // 60, minute % 60)
        if all(exists(day, at, zone) for day in changes):
            return at
    raise AssertionError(f"no minute of the day exists on every day in {timezone}")


def last_run(last_day: str, timezone: str, lateness_h: float) -> datetime:
    """When the last day of a closed log (YYYY-MM-DD) runs; no later run may be scheduled."""
    following = date.fromisoformat(last_day) + timedelta(days=1)
    at = run_time(timezone, lateness_h)
    return datetime.combine(following, at, ZoneInfo(timezone)).astimezone(UTC)


def last_weekly_run(last_day: str, timezone: str, lateness_h: float) -> datetime:
    """When the last week of a closed log runs."""
    day = date.fromisoformat(last_day)
    sunday = day + timedelta(days=6 - day.weekday())
    due_h = lateness_h + WATCH_H
    following = sunday + timedelta(days=int(due_h // 24))
    return last_run(str(following), timezone, due_h % 24)


def days_of_change(zone: ZoneInfo, year: int) -> list[date]:
    """The days on which the clock is put forward, in this year and the next YEARS_AHEAD."""
    days = []
    day = date(year, 1, 1)
    before = offset_at_midnight(day, zone)
    while day.year <= year + YEARS_AHEAD:
        after = offset_at_midnight(day + timedelta(days=1), zone)
        if after > before:
            days.append(day)
        day += timedelta(days=1)
        before = after
    return days


def offset_at_midnight(day: date, zone: ZoneInfo) -> timedelta:
    """The zone's offset from UTC as the day begins; where midnight is skipped, that before it."""
    offset = datetime.combine(day, time(), zone).utcoffset()
    assert offset is not None, "the time has a zone"
    return offset


def exists(day: date, at: time, zone: ZoneInfo) -> bool:
    """Does the zone's clock show this time on this day?"""
    local = datetime.combine(day, at)
    there_and_back = local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    return there_and_back.replace(tzinfo=None) == local
