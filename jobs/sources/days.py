"""Which day a row belongs to, and which days a file holds.

A moment belongs to the day that its time zone's calendar shows. A file is scanned by this process
for the days that it holds, again only when it has changed; a day is then read from those files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from embeddings.durable import signature
from jobs.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

HOUR_MS = 3_600_000
QUARTER_HOUR_MS = HOUR_MS // 4  # every time zone's midnight is at a multiple of it

# Share of a file's rows. With more undated rows, the settings name a wrong column or unit.
MAX_UNDATED_SHARE = 0.05

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_bounds_ms(day: date, timezone: str) -> tuple[int, int]:
    """First millisecond of the day in that time zone, and of the next day, since 1970 in UTC."""
    return midnight_ms(day, timezone), midnight_ms(day + timedelta(days=1), timezone)


def midnight_ms(day: date, timezone: str) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(midnight.timestamp()) * 1000


def day_of_ms(time_ms: int, timezone: str) -> date:
    """The day of a moment in that time zone.

    Raises OverflowError or ValueError beyond the year 9999.
    """
    moment = EPOCH + timedelta(milliseconds=time_ms)
    return moment.astimezone(ZoneInfo(timezone)).date()


@dataclass(frozen=True)
class FileDays:
    """The days of a file's rows, and its number of rows without a readable time."""

    days: frozenset[date]
    undated: int


@dataclass(frozen=True)
class LogFiles:
    """The files of a log, each with the days that it holds."""

    files: dict[Path, FileDays]

    def span(self) -> tuple[date, date]:
        """First and last day of the whole log."""
        days = frozenset[date]().union(*(held.days for held in self.files.values()))
        return min(days), max(days)

    def of_day(self, day: date) -> list[Path]:
        """The files that have rows of a day; none where the log has a gap."""
        return [file for file, held in self.files.items() if day in held.days]

    def to_read(self, day: date) -> list[Path]:
        """As `of_day`, but at least one file: a day without rows has a table with columns."""
        return self.of_day(day) or list(self.files)[:1]

    def notes(self, day: date) -> dict[str, int | str]:
        """The number of rows in the day's files that no day holds, where there are any."""
        undated = sum(self.files[file].undated for file in self.of_day(day))
        return {"undated_rows": undated} if undated else {}


_scanned: dict[tuple[Path, str], tuple[list[int], FileDays]] = {}


def scanned_once(file: Path, settings: str, scan: Callable[[Path], FileDays]) -> FileDays:
    """The days of a file, scanned by this process once for as long as the file is unchanged.

    settings: whatever the result depends on besides the file.
    """
    now = signature(file)
    known = _scanned.get((file, settings))
    if known is None or known[0] != now:
        known = _scanned[file, settings] = (now, scan(file))
    return known[1]


def days_of(
    file: Path,
    batches: Iterable[pd.Series],
    to_day: Callable[[float], date],
    column: str,
    step: int = 1,
) -> FileDays:
    """The days that a file holds, from its column of times.

    batches: the column, as any numbers that grow with time; NaN where a time cannot be read.
    to_day: from such a number to its day. step: numbers within a multiple of it and the next belong
    to one day or to two consecutive ones. column: its name and how it was read, for messages.
    Raises BadInput for a file without rows, or with unreadable or impossible times.
    """
    import numpy as np

    steps: set[int] = set()
    rows = undated = 0
    # In batches, so that the memory does not grow with the file.
    for batch in batches:
        rows += len(batch)
        known = batch.dropna().to_numpy(dtype=np.float64)
        undated += len(batch) - len(known)
        steps.update(np.unique(known // step).tolist())
    if rows == 0:
        raise BadInput(f"{file} has no rows.")
    if undated > MAX_UNDATED_SHARE * rows:
        raise BadInput(f"{file}: {undated:,} of {rows:,} rows have no readable time in {column}.")
    days = set()
    try:
        for first in steps:
            days |= {to_day(first * step), to_day(first * step + step - 1)}
    # Milliseconds that are read as seconds lead here, for example.
    except (OverflowError, ValueError):
        raise BadInput(f"{file}: the times in {column} reach beyond the year 9999.") from None
    return FileDays(frozenset(days), undated)
