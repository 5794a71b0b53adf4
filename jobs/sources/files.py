"""What logs in plain files share: every row says its time, and a day's rows are those whose time lies in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.sources import reading
from jobs.sources.reading import Span, day_bounds_ms

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class FileLog(ABC):
    """A source of one table. Only files whose span holds a day are read for it."""

    slack_h = 0.0
    table_name: str

    def __init__(self, path: Path, timezone: str) -> None:
        self.path, self.timezone = path, timezone

    @abstractmethod
    def span_of(self, file: Path) -> tuple[Span, int]:
        """First and last day of a file's rows, and how many of them have no readable time."""

    @abstractmethod
    def rows(self, spark: SparkSession, files: list[Path]) -> DataFrame:
        """All rows of these files in the columns of jobs/lake/schema.py."""

    def span(self) -> Span:
        return reading.whole_span(span for span, _ in self._files.values())

    def tables(self, day: date) -> tuple[str, ...]:
        first, last = self.span()
        return (self.table_name,) if first <= day <= last else ()

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        from pyspark.sql import functions as F

        files = [file for file, ((first, last), _) in self._files.items() if first <= day <= last]
        start, end = day_bounds_ms(day, self.timezone)
        rows = self.rows(
            spark, files or list(self._files)[:1]
        )  # a day between two files has no rows
        return rows.where(F.col("time_ms").between(start, end - 1))

    def notes(self, day: date) -> dict[str, int | str]:
        undated = sum(undated for _, undated in self._files.values())
        return {"undated_rows_in_log": undated} if undated else {}

    @cached_property
    def _files(self) -> dict[Path, tuple[Span, int]]:
        return {file: self.span_of(file) for file in reading.find_files(self.path)}
