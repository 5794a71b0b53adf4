"""`src dst unix_time [kind]`, separated by white space, gzip or not: messages, retweets, follows, answers.

consumer = src, producer = dst, kind = "edge" where the line names none; there are no items. Empty lines and lines that
begin with # are passed over. This is how SNAP and KONECT publish temporal networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.schema import ENGAGEMENT_TABLE
from jobs.settings import EdgelistSettings
from jobs.sources import reading
from jobs.sources.reading import Span, day_bounds_ms, day_of_ms

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


class Edgelist:
    name = "edgelist"
    slack_h = 0.0

    def __init__(self, settings: EdgelistSettings) -> None:
        self.settings = settings
        self.timezone = settings.timezone

    def span(self) -> Span:
        return reading.whole_span(span for span, _ in self._spans.values())

    def tables(self, day: date) -> tuple[str, ...]:
        first, last = self.span()
        return (ENGAGEMENT_TABLE,) if first <= day <= last else ()

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"item_id"})

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        from pyspark.sql import functions as F

        start, end = day_bounds_ms(day, self.timezone)
        lines = spark.read.text([str(file) for file in self._spans])
        return engagements(lines).where(F.col("time_ms").between(start, end - 1))

    def notes(self, day: date) -> dict[str, int | str]:
        undated = sum(undated for _, undated in self._spans.values())
        return {"undated_rows_in_log": undated} if undated else {}

    @cached_property
    def _spans(self) -> dict[Path, tuple[Span, int]]:
        """Every file with its span and the lines in it that have no readable time."""
        return {file: self._span(file) for file in reading.find_files(self.settings.path)}

    def _span(self, file: Path) -> tuple[Span, int]:
        times = (reading.times_to_ms(batch, "s", self.timezone) for batch in third_fields(file))
        return reading.span_of(
            file, times, lambda ms: day_of_ms(int(ms), self.timezone), "the third field of `src dst unix_time [kind]`"
        )


def engagements(lines: DataFrame) -> DataFrame:
    """lines: one text column `value`."""
    from pyspark.sql import functions as F

    text = F.trim(F.regexp_replace("value", r"\s+", " "))
    field = F.split(text, " ")
    return lines.where((text != "") & ~text.startswith("#")).select(
        F.get(field, F.lit(0)).alias("consumer_id"),
        F.get(field, F.lit(1)).alias("producer_id"),
        F.lit(None).cast("string").alias("item_id"),
        F.coalesce(F.get(field, F.lit(3)), F.lit("edge")).alias("kind"),
        F.lit(1.0).alias("value"),
        reading.time_in_ms(F.get(field, F.lit(2)), "s", "UTC").alias("time_ms"),
    )


def third_fields(file: Path) -> Iterator[pd.Series]:
    """The third field of every line that is neither empty nor a comment, as text, batch by batch."""
    import pyarrow as pa
    from pyarrow import csv

    whole_lines = csv.ParseOptions(delimiter="\x1f", quote_char=False)
    with reading.reading(file):
        stream = csv.open_csv(
            file,
            read_options=csv.ReadOptions(column_names=["line"]),
            parse_options=whole_lines,
            convert_options=csv.ConvertOptions(column_types={"line": pa.string()}),
        )
        for batch in stream:
            lines = batch.column(0).to_pandas().str.strip()
            lines = lines[(lines != "") & ~lines.str.startswith("#")]
            yield lines.str.split(n=3).str[2]
