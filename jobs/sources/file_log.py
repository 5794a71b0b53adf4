"""The base of sources whose rows have a time: a day's rows are those whose time is in that day."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.lake.schema import quoted
from jobs.lake.store import read_parquet
from jobs.sources.base import SourceSettings
from jobs.sources.files import find_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.intake.index import Log, LogFile, Taker
    from jobs.intake.reading import Wanted

SPARK_TYPES = {"string": "string", "double": "double", "int64": "bigint", "int32": "int"}
ACCOUNTED = "log_rows"  # the note that `land` compares with the rows that it has written


class FileLog(ABC):
    """A source of one table. Every file is read once, see `jobs.intake`."""

    slack_h = 0.0
    table_name: str
    late_days: int | None = None

    def __init__(self, settings: SourceSettings, timezone: str, memory: Path) -> None:
        """memory: the folder that keeps what was read of each file."""
        self.path = settings.path
        self.timezone = timezone
        self.memory = memory

    @abstractmethod
    def wanted(self, file: Path) -> Wanted:
        """What to read of a file, and how it is written."""

    def log_files(self) -> list[Path]:
        """The files of the log."""
        return find_files(self.path)

    def span(self) -> tuple[date, date]:
        if self.log.body is not None:
            return self.log.body
        for file in self.log.troubles:
            raise BadInput(file.account.trouble)
        raise BadInput(f"{self.path} has no rows.")

    def tables(self, day: date) -> tuple[str, ...]:
        first, last = self.span()
        return (self.table_name,) if first <= day <= last else ()

    def files(self, day: date) -> list[Path]:
        return [file.path for file in self.log.of_day(day)]

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        return self.rows(spark, day)

    def rows(self, spark: SparkSession, day: date) -> DataFrame:
        """The rows of the day, each with the place in the log that it comes from.

        Raises BadInput where a file that cannot be read may hold rows of the day.
        """
        from jobs.sources.rows import union

        self._read_again_what_changed(day)
        for file in self.log.stopped(day):
            raise BadInput(file.account.trouble)
        parts = list(self._parts(spark, day))
        return union(parts) if parts else self._no_rows(spark)

    def _read_again_what_changed(self, day: date) -> None:
        """A file of the day may have been written to, or its rows damaged, since it was read."""
        from jobs.intake.index import take_here

        broken = [file for file in self.log.of_day(day) if not file.is_as_read]
        for file in broken:
            shutil.rmtree(file.folder, ignore_errors=True)
        if broken:
            self.read(take_here)

    def _parts(self, spark: SparkSession, day: date) -> Iterator[DataFrame]:
        from pyspark.sql import functions as F

        for file in self.log.of_day(day):
            name = F.lit(self.name_of(file))
            aside = self.log.all_strays(file)
            if day in file.days and day not in aside:
                yield read_rows(spark, file, day).withColumn("source_file", name)
            for stray, reason in self.log.strays(file, day).items():
                rows = read_rows(spark, file, stray).withColumn("source_file", name)
                yield rows.withColumn("fault", F.coalesce("fault", F.lit(reason)))

    def _no_rows(self, spark: SparkSession) -> DataFrame:
        file = self.log.files[0].path
        schema = self.wanted(file).schema
        columns = [f"{quoted(field.name)} {SPARK_TYPES[str(field.type)]}" for field in schema]
        return spark.createDataFrame([], ", ".join([*columns, "source_file string"]))

    def name_of(self, file: LogFile) -> str:
        """A file's name relative to the log's folder."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return (
            str(file.path.relative_to(folder))
            if file.path.is_relative_to(folder)
            else str(file.path)
        )

    def notes(self, day: date) -> dict[str, int | str]:
        return {ACCOUNTED: self.log.rows_of(day)}

    def unused(self) -> list[Path]:
        """The folders of what was read of files that are not in the log any more."""
        from jobs.intake.index import unused

        return unused(self.memory, {file.folder for file in self.log.files})

    @cached_property
    def log(self) -> Log:
        """The files of the log, as they are when this is first asked for."""
        from jobs.intake.index import take_here

        return self.read(take_here)

    def read(self, taker: Taker) -> Log:
        """What is known of the log's files. taker: reads those that are new or have changed."""
        from jobs.intake.index import read_log

        wanted = {file: self.wanted(file) for file in self.log_files()}
        self.log = read_log(wanted, self.memory, taker, self.late_days)
        return self.log

    def recall(self) -> None:
        """Do with what was read of the files before; they are read only where none ever was."""
        from jobs.intake.index import recalled, take_here

        wanted = {file: self.wanted(file) for file in self.log_files()}
        self.log = recalled(wanted, self.memory, self.late_days)
        if not self.log.files:
            self.read(take_here)


def read_rows(spark: SparkSession, file: LogFile, day: date) -> DataFrame:
    return read_parquet(spark, file.rows_of(day))
