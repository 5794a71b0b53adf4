"""Lists of edges, `src dst unix_time [kind]`: messages, retweets, follows, answers.

Fields are separated by white space, files may be gzipped. consumer = src, producer = dst, kind is
"edge" where the line has none; there are no items. Empty lines and lines that begin with # are
skipped. SNAP and KONECT publish temporal networks in this format.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.sources.base import SourceSettings, Timezone
from jobs.sources.days import QUARTER_HOUR_MS, FileDays, day_of_ms, days_of
from jobs.sources.file_log import FileLog
from jobs.sources.rows import text_lines
from jobs.sources.times import time_in_ms, times_to_ms

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


class EdgelistSettings(SourceSettings):
    """Lists of edges, `src dst unix_time [kind]`, separated by white space."""

    path: Path
    """A file, a folder, or a glob; gzipped files too."""

    timezone: Timezone = "UTC"
    """A day runs from midnight to midnight in this time zone."""


class Edgelist(FileLog):
    Settings = EdgelistSettings
    table_name = ENGAGEMENT_TABLE

    def __init__(self, settings: EdgelistSettings) -> None:
        super().__init__(settings, settings.timezone)

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"item_id"})

    def days_of(self, file: Path) -> FileDays:
        return days_of(
            file,
            self._times_ms(file),
            lambda ms: day_of_ms(int(ms), self.timezone),
            "the third field of `src dst unix_time [kind]`",
            QUARTER_HOUR_MS,
        )

    def rows(self, spark: SparkSession, files: list[Path]) -> DataFrame:
        return engagements(spark.read.text([str(file) for file in files]))

    def _times_ms(self, file: Path) -> Iterator[pd.Series]:
        for fields in third_fields(file):
            yield times_to_ms(fields, "s", self.timezone)


SOURCE = Edgelist


def engagements(lines: DataFrame) -> DataFrame:
    """One engagement per edge. lines: one text column `value`."""
    from pyspark.sql import functions as F

    text = F.trim(F.regexp_replace("value", r"\s+", " "))
    fields = F.split(text, " ")
    src, dst, time, kind = (F.get(fields, F.lit(n)) for n in range(4))
    edges = lines.where((text != "") & ~text.startswith("#"))
    return edges.select(
        src.alias("consumer_id"),
        dst.alias("producer_id"),
        F.lit(None).cast("string").alias("item_id"),
        F.coalesce(kind, F.lit("edge")).alias("kind"),
        F.lit(1.0).alias("value"),
        # Seconds since 1970 are the same in every zone; the time zone only divides them into days.
        time_in_ms(time, "s", "UTC").alias("time_ms"),
    )


def third_fields(file: Path) -> Iterator[pd.Series]:
    """The third field of every edge, as text, in batches."""
    for lines in text_lines(file):
        edges = lines[(lines != "") & ~lines.str.startswith("#")]
        yield edges.str.split(n=3).str[2]
