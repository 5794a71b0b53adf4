"""Your own log, CSV or Parquet, described by settings alone: `source.columns` maps our names to yours.

With `source.labels` a row is an impression, without them an engagement. A day's rows are those whose time lies in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE
from jobs.settings import TableSettings
from jobs.sources import reading
from jobs.sources.files import FileLog
from jobs.sources.reading import Span, day_of_ms, whole_number

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

ENGAGEMENT_COLUMNS = ("consumer_id", "producer_id", "item_id", "kind", "value", "time_ms")
IMPRESSION_COLUMNS = ("consumer_id", "producer_id", "item_id", "time_ms", "dwell_ms")


class Table(FileLog):
    name = "table"

    def __init__(self, settings: TableSettings) -> None:
        super().__init__(settings.path, settings.timezone)
        self.settings = settings
        self.table_name = IMPRESSION_TABLE if settings.labels else ENGAGEMENT_TABLE

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"item_id", "dwell_ms"} - self.settings.columns.keys())

    def span_of(self, file: Path) -> tuple[Span, int]:
        time, unit = self.settings.columns["time"], self.settings.time_unit
        reading.require_columns(file, self._header(file), self._wanted())
        read = (
            reading.parquet_column(file, time) if is_parquet(file) else self._csv_column(file, time)
        )
        times = (reading.times_to_ms(batch, unit, self.timezone) for batch in read)
        what = f"column '{time}', read as source.time_unit = '{unit}'"
        return reading.span_of(file, times, lambda ms: day_of_ms(int(ms), self.timezone), what)

    def rows(self, spark: SparkSession, files: list[Path]) -> DataFrame:
        return reading.union([self._select(self._rows(spark, file)) for file in files])

    def _rows(self, spark: SparkSession, file: Path) -> DataFrame:
        if is_parquet(file):
            return spark.read.parquet(str(file))
        return reading.csv_rows(spark, [file], self.settings.separator)

    def _select(self, rows: DataFrame) -> DataFrame:
        """Their columns as ours; a column that is not mapped is null, `kind` is "engagement" and `value` is 1."""
        from pyspark.sql import functions as F

        def theirs(ours: str, default: object = None) -> Column:
            mapped = self.settings.columns.get(ours)
            return (
                F.lit(default).cast("string") if mapped is None else quoted(mapped).cast("string")
            )

        time_ms = self._time_ms(rows).alias("time_ms")
        ids = [theirs(name).alias(name) for name in ("consumer_id", "producer_id", "item_id")]
        if self.table_name == ENGAGEMENT_TABLE:
            kind, value = (
                theirs("kind", "engagement").alias("kind"),
                theirs("value", 1.0).try_cast("double").alias("value"),
            )
            return rows.select(*ids, kind, value, time_ms)
        labels = [
            label_value(quoted(column)).alias(f"label_{name}")
            for name, column in self.settings.labels.items()
        ]
        context = [
            quoted(column).cast("string").alias(f"ctx_{column}") for column in self.settings.context
        ]
        return rows.select(
            *ids, time_ms, whole_number(theirs("dwell_ms")).alias("dwell_ms"), *labels, *context
        )

    def _time_ms(self, rows: DataFrame) -> Column:
        from pyspark.sql import functions as F

        time = self.settings.columns["time"]
        if dict(rows.dtypes)[time] == "timestamp":
            return F.unix_millis(quoted(time))
        unit = (
            "iso"
            if dict(rows.dtypes)[time] in ("timestamp_ntz", "date")
            else self.settings.time_unit
        )
        return reading.time_in_ms(quoted(time).cast("string"), unit, self.timezone)

    def _csv_column(self, file: Path, column: str):
        return reading.csv_column(file, column, self.settings.separator)

    def _header(self, file: Path) -> tuple[str, ...]:
        if not is_parquet(file):
            return reading.header_of(file, self.settings.separator)
        from pyarrow import parquet

        with reading.reading(file):
            return tuple(parquet.read_schema(file).names)

    def _wanted(self) -> dict[str, str]:
        """The columns that the settings name, each with the setting that names it."""
        named = [
            (column, f"source.columns.{ours}") for ours, column in self.settings.columns.items()
        ]
        named += [
            (column, f"source.labels.{label}") for label, column in self.settings.labels.items()
        ]
        named += [(column, "source.context") for column in self.settings.context]
        return {
            column: f"Change {setting}, which asks for it." for column, setting in reversed(named)
        }


def is_parquet(file: Path) -> bool:
    return file.suffix in (".parquet", ".pq")


def quoted(name: str) -> Column:
    """The column of exactly that name, whatever characters it has."""
    from pyspark.sql import functions as F

    return F.col("`" + name.replace("`", "``") + "`")


def label_value(column: Column) -> Column:
    """0 or 1 from a number, or from true/false; null from anything else that is no whole number."""
    from pyspark.sql import functions as F

    text = F.lower(F.trim(column.cast("string")))
    truth = F.when(text == "true", 1).when(text == "false", 0)
    return F.coalesce(truth, F.regexp_replace(text, r"\.0+$", "").try_cast("int"))
