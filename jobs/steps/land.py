"""land: the day's rows of the source, unchanged, in our columns.

A value that cannot be read becomes null and is judged by `validate`. A file that cannot be read is
an error, and nothing is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.errors import BadInput
from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE, in_order
from jobs.pipeline.origin import origin, require_unchanged
from jobs.pipeline.plan import writing
from jobs.settings import Settings
from jobs.sources import open_source
from jobs.sources.file_log import ACCOUNTED
from jobs.sources.files import naming_the_file

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source",)
FORMAT = 2
EVENT_TABLES = (ENGAGEMENT_TABLE, IMPRESSION_TABLE)
SPARK = True
FACTS = (
    Fact("rows_impressions", "impressions in the source", "rows", headline=True),
    Fact("rows_engagements", "engagements in the source", "rows", headline=True),
    Fact("rows_<table>", "rows of the table in the source", "rows"),
    Fact(
        "exact_repeats_dropped",
        "impressions equal to another one in all columns, dropped by the source's adapter",
        "rows",
        better="lower",
    ),
    Fact("log_rows", "rows of the day in the log's files, unreadable lines included", "rows"),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return []


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Source -> land/day=D, one folder per table.

    Raises BadInput for a day outside the log, an unreadable file, or a missing column.
    """
    source = open_source(settings)
    first, last = source.span()
    if not first <= day <= last:
        raise BadInput(
            f"{day} is not in the log, which runs from {first} to {last}. "
            "Choose a day within it, or add the file of that day."
        )
    origin_read = origin(settings, day)
    log = {"log": origin_read.log, "sources": origin_read.files}
    with naming_the_file(), writing(settings, "land", day, **log) as staging:
        for table in source.tables(day):
            rows = in_order(source.table(spark, table, day), table)
            # Sorted by all columns, which is a total order, except for rows that are equal anyway.
            staging.write(rows, table, keys=rows.columns, partitions=settings.spark.partitions)
            staging.facts[f"rows_{table}"] = parquet_rows(staging.path / table)
        # After the tables: some of the notes are counted while Spark writes the rows.
        notes = source.notes(day)
        require_all_landed(settings, day, staging.facts, notes)
        staging.facts |= notes
        require_unchanged(settings, day, origin_read)


def require_all_landed(
    settings: Settings, day: date, facts: Mapping[str, int], notes: Mapping[str, int | str]
) -> None:
    """Raise BadInput where the log has another number of rows on the day than were landed."""
    if ACCOUNTED not in notes:
        return
    landed = sum(facts.get(f"rows_{table}", 0) for table in EVENT_TABLES)
    dropped = int(notes.get("exact_repeats_dropped", 0))
    if landed + dropped != notes[ACCOUNTED]:
        raise BadInput(
            f"{settings.source.path} has {notes[ACCOUNTED]:,} rows of {day}, and {landed:,} were "
            f"landed, {dropped:,} repeats apart. Nothing of the day was kept; land it again, and "
            "report it as a fault of Evergreen if it stays."
        )


def parquet_rows(folder: Path) -> int:
    """Number of rows of the Parquet files in a folder, from their footers."""
    from pyarrow import parquet

    return sum(parquet.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
