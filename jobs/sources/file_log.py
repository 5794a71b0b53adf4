"""The base of sources whose rows have a time: a day's rows are those whose time is in that day."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.sources.base import SourceSettings
from jobs.sources.days import FileDays, LogFiles, day_bounds_ms, scanned_once
from jobs.sources.files import find_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class FileLog(ABC):
    """A source of one table. A day is read only from the files that can hold it."""

    slack_h = 0.0
    table_name: str

    def __init__(self, settings: SourceSettings, timezone: str) -> None:
        self.path = settings.path
        self.timezone = timezone
        self._settings = settings.model_dump_json()

    @abstractmethod
    def days_of(self, file: Path) -> FileDays:
        """The days that a file holds."""

    @abstractmethod
    def rows(self, spark: SparkSession, files: list[Path]) -> DataFrame:
        """All rows of these files in the columns of jobs/lake/schema.py."""

    def span(self) -> tuple[date, date]:
        return self._log.span()

    def tables(self, day: date) -> tuple[str, ...]:
        first, last = self.span()
        return (self.table_name,) if first <= day <= last else ()

    def files(self, day: date) -> list[Path]:
        return self._log.of_day(day)

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        from pyspark.sql import functions as F

        # The files are chosen by this process, the rows by Spark: `jobs.sources.times` makes sure
        # that both read a time in the same way.
        rows = self.rows(spark, self._log.to_read(day))
        start, end = day_bounds_ms(day, self.timezone)
        return rows.where(F.col("time_ms").between(start, end - 1))

    def notes(self, day: date) -> dict[str, int | str]:
        return self._log.notes(day)

    @cached_property
    def _log(self) -> LogFiles:
        days = {}
        for file in find_files(self.path):
            days[file] = scanned_once(file, self._settings, self.days_of)
        return LogFiles(days)
