"""The bounds of a day: a moment belongs to the day that its time zone's calendar shows."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000


def day_bounds_ms(day: date, timezone: str) -> tuple[int, int]:
    """First millisecond of the day in that time zone, and of the next day, since 1970 in UTC."""
    return midnight_ms(day, timezone), midnight_ms(day + timedelta(days=1), timezone)


def midnight_ms(day: date, timezone: str) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(midnight.timestamp()) * 1000
