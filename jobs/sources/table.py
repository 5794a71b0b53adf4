"""Any log in CSV or Parquet, described by settings alone.

`source.columns` maps our column names to the log's. With `source.labels` a row is an impression,
without them an engagement.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from jobs.lake.schema import ENGAGEMENT_TABLE, ENGAGEMENTS, IMPRESSION_TABLE, IMPRESSIONS
from jobs.sources.base import SourceSettings, Timezone
from jobs.sources.days import QUARTER_HOUR_MS, FileDays, day_of_ms, days_of
from jobs.sources.file_log import FileLog
from jobs.sources.files import header_of, parquet_columns, require_columns
from jobs.sources.rows import csv_column, csv_rows, parquet_column, quoted, union, whole_number
from jobs.sources.times import time_in_ms, times_to_ms

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame, SparkSession

REQUIRED = frozenset({"consumer_id", "producer_id", "time"})


class TableSettings(SourceSettings):
    """Any log in CSV or Parquet, described by settings alone."""

    path: Path
    """A file, a folder, or a glob; .csv, .csv.gz or .parquet."""

    columns: dict[str, str]
    """Our names and the log's: `consumer_id`, `producer_id` and `time` are required; `item_id` is
    optional, and so are `kind` and `value` of engagements and `dwell_ms` of impressions."""

    labels: dict[str, str] = Field(default={})
    """Label and the log's 0/1 column. With labels a row is an impression, without an engagement."""

    context: list[str] = Field(default=[])
    """Further columns known when the item is shown, as categories; only with labels."""

    time_unit: Literal["s", "ms", "iso"] = "s"
    """How `time` is written: seconds or milliseconds since 1970, or ISO texts."""

    timezone: Timezone = "UTC"
    """A day runs from midnight to midnight in this time zone; ISO times without an offset are local
    to it."""

    separator: str = ","
    """Separator between the fields of a CSV line."""

    @property
    def table(self) -> str:
        """The table that the rows belong to."""
        return IMPRESSION_TABLE if self.labels else ENGAGEMENT_TABLE

    @property
    def known_columns(self) -> frozenset[str]:
        """Our names that `columns` may map: the table's columns, with `time` for time_ms."""
        fixed = IMPRESSIONS if self.labels else ENGAGEMENTS
        return frozenset(fixed) - {"time_ms"} | {"time"}

    @model_validator(mode="after")
    def _columns_are_ours(self) -> TableSettings:
        if missing := sorted(REQUIRED - self.columns.keys()):
            raise ValueError(
                f"columns lacks {missing}: name the log's column for each of {sorted(REQUIRED)}"
            )
        if unknown := sorted(self.columns.keys() - self.known_columns):
            given = "labels are given" if self.labels else "no labels are given"
            raise ValueError(
                f"columns has {unknown}, which {self.table} ({given}) do not have; "
                f"they may have {sorted(self.known_columns)}"
            )
        if self.context and not self.labels:
            raise ValueError("context applies to impressions: give labels too, or leave it out")
        return self


class Table(FileLog):
    Settings = TableSettings

    def __init__(self, settings: TableSettings) -> None:
        super().__init__(settings, settings.timezone)
        self.settings = settings
        self.table_name = settings.table

    def absent(self, table: str) -> frozenset[str]:
        # The other optional columns, kind and value, have defaults instead of nulls.
        return frozenset({"item_id", "dwell_ms"} - self.settings.columns.keys())

    def days_of(self, file: Path) -> FileDays:
        columns = parquet_columns(file) if is_parquet(file) else self._csv_columns(file)
        require_columns(file, columns, self._remedies())
        time, unit = self.settings.columns["time"], self.settings.time_unit
        return days_of(
            file,
            self._times_ms(file),
            lambda ms: day_of_ms(int(ms), self.timezone),
            f"column '{time}', read as source.time_unit = '{unit}'",
            QUARTER_HOUR_MS,
        )

    def rows(self, spark: SparkSession, files: list[Path]) -> DataFrame:
        # File by file, because the columns of two files may differ in order and number.
        return union([self._select(self._rows(spark, file)) for file in files])

    def _csv_columns(self, file: Path) -> tuple[str, ...]:
        return header_of(file, self.settings.separator)

    def _times_ms(self, file: Path) -> Iterator[pd.Series]:
        column = self.settings.columns["time"]
        if is_parquet(file):
            batches = parquet_column(file, column)
        else:
            batches = csv_column(file, column, self.settings.separator)
        for batch in batches:
            yield times_to_ms(batch, self.settings.time_unit, self.timezone)

    def _rows(self, spark: SparkSession, file: Path) -> DataFrame:
        if is_parquet(file):
            return spark.read.parquet(str(file))
        return csv_rows(spark, file, self.settings.separator)

    def _select(self, rows: DataFrame) -> DataFrame:
        """The log's columns as ours. `kind` is "engagement" and `value` is 1 by default."""
        selected = [
            self._text("consumer_id").alias("consumer_id"),
            self._text("producer_id").alias("producer_id"),
            self._text("item_id").alias("item_id"),
            self._time_ms(rows).alias("time_ms"),
        ]
        if self.table_name == ENGAGEMENT_TABLE:
            selected.append(self._text("kind", "engagement").alias("kind"))
            selected.append(self._text("value", 1.0).try_cast("double").alias("value"))
            return rows.select(*selected)
        selected.append(whole_number(self._text("dwell_ms")).alias("dwell_ms"))
        for label, column in self.settings.labels.items():
            selected.append(label_value(quoted(column)).alias(f"label_{label}"))
        for column in self.settings.context:
            selected.append(quoted(column).cast("string").alias(f"ctx_{column}"))
        return rows.select(*selected)

    def _text(self, name: str, default: object = None) -> Column:
        """The log's column for one of ours, as text; the default where it is not mapped."""
        from pyspark.sql import functions as F

        column = self.settings.columns.get(name)
        return (F.lit(default) if column is None else quoted(column)).cast("string")

    def _time_ms(self, rows: DataFrame) -> Column:
        from pyspark.sql import functions as F

        name = self.settings.columns["time"]
        kind = dict(rows.dtypes)[name]
        if kind == "timestamp":
            return F.unix_millis(quoted(name))
        # Parquet's own dates and local timestamps are printed as ISO texts, whatever the unit.
        unit = "iso" if kind in ("timestamp_ntz", "date") else self.settings.time_unit
        return time_in_ms(quoted(name).cast("string"), unit, self.timezone)

    def _remedies(self) -> dict[str, str]:
        """Every column that the settings name -> what to do when a file lacks it."""
        settings_of_columns: dict[str, str] = {}
        # Where several settings name one column, the first is reported.
        for name, column in self.settings.columns.items():
            settings_of_columns.setdefault(column, f"source.columns.{name}")
        for label, column in self.settings.labels.items():
            settings_of_columns.setdefault(column, f"source.labels.{label}")
        for column in self.settings.context:
            settings_of_columns.setdefault(column, "source.context")
        return {
            column: f"Change {setting}, which names it."
            for column, setting in settings_of_columns.items()
        }


SOURCE = Table


def is_parquet(file: Path) -> bool:
    return file.suffix in (".parquet", ".pq")


def label_value(column: Column) -> Column:
    """0 or 1 from a number or from true/false; null from anything that is not a whole number."""
    from pyspark.sql import functions as F

    text = F.lower(F.trim(column.cast("string")))
    truth = F.when(text == "true", 1).when(text == "false", 0)
    # Without the zeros after the point, so that "1.0" is a label and "0.5" is not.
    return F.coalesce(truth, F.regexp_replace(text, r"\.0+$", "").try_cast("int"))
