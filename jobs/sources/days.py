"""Which day a row belongs to, and which days a file holds.

A moment belongs to the day that its time zone's calendar shows. A file is scanned once, by this
process, for its first and last day; a day is then read only from the files that can hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from jobs.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

HOUR_MS = 3_600_000

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
class FileSpan:
    """The first and last day of a file's rows, and its number of rows without a readable time."""

    first: date
    last: date
    undated: int


@dataclass(frozen=True)
class LogFiles:
    """The files of a log, each with the days that it holds."""

    spans: dict[Path, FileSpan]

    def span(self) -> tuple[date, date]:
        """First and last day of the whole log."""
        first = min(span.first for span in self.spans.values())
        last = max(span.last for span in self.spans.values())
        return first, last

    def of_day(self, day: date) -> list[Path]:
        """The files to read for a day; at least one, whose rows may all be of other days."""
        files = [file for file, span in self.spans.items() if span.first <= day <= span.last]
        if files:
            return files
        # A day in the gap between two files has no rows, but its table needs the columns of one.
        return list(self.spans)[:1]

    def notes(self) -> dict[str, int | str]:
        """The number of rows that no day holds, where there are any."""
        undated = sum(span.undated for span in self.spans.values())
        return {"undated_rows_in_log": undated} if undated else {}


def span_of(
    file: Path, batches: Iterable[pd.Series], to_day: Callable[[float], date], column: str
) -> FileSpan:
    """The days that a file holds, from its column of times.

    batches: the column, as any numbers that grow with time; NaN where a time cannot be read.
    to_day: from such a number to its day. column: its name and how it was read, for messages.
    Raises BadInput for a file without rows, or with unreadable or impossible times.
    """
    low = float("inf")
    high = float("-inf")
    rows = undated = 0
    # In batches, so that the memory does not grow with the file.
    for batch in batches:
        rows += len(batch)
        undated += int(batch.isna().sum())
        low = min(low, batch.min())
        high = max(high, batch.max())
    if rows == 0:
        raise BadInput(f"{file} has no rows.")
    if undated > MAX_UNDATED_SHARE * rows:
        raise BadInput(f"{file}: {undated:,} of {rows:,} rows have no readable time in {column}.")
    # Milliseconds that are read as seconds lead here, for example.
    try:
        return FileSpan(to_day(low), to_day(high), undated)
    except (OverflowError, ValueError):
        raise BadInput(f"{file}: the times in {column} reach beyond the year 9999.") from None
