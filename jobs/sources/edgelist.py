"""`src dst unix_time [kind]`, separated by white space, gzip or not: messages, retweets, follows, answers.

consumer = src, producer = dst, kind = "edge" where the line names none; there are no items. Empty lines and lines that
begin with # are passed over. This is how SNAP and KONECT publish temporal networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.settings import EdgelistSettings
from jobs.sources import reading
from jobs.sources.files import FileLog
from jobs.sources.reading import Span, day_of_ms

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


class Edgelist(FileLog):
    name = "edgelist"
    table_name = ENGAGEMENT_TABLE

    def __init__(self, settings: EdgelistSettings) -> None:
        super().__init__(settings.path, settings.timezone)

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"item_id"})

    def span_of(self, file: Path) -> tuple[Span, int]:
        times = (reading.times_to_ms(batch, "s", self.timezone) for batch in third_fields(file))
        return reading.span_of(
            file,
            times,
            lambda ms: day_of_ms(int(ms), self.timezone),
            "the third field of `src dst unix_time [kind]`",
        )

    def rows(self, spark: SparkSession, files: list[Path]) -> DataFrame:
        return engagements(spark.read.text([str(file) for file in files]))


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
