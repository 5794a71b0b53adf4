"""land: the day's rows of the source, as they are, in our columns.

A value that cannot be read is null here and judged by `validate`; a file that cannot be read is an error, and nothing
is committed.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.lake.schema import in_order
from jobs.settings import Settings
from jobs.sources import open_source
from jobs.sources.files import naming_the_file

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source",)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return []


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Source -> land/day=D, one table a folder. Facts: rows_<table>, and what the adapter did to the rows.

    Raises BadInput for a day outside the log, a file that cannot be read, or a column that is not there.
    """
    source = open_source(settings)
    first, last = source.span()
    if not first <= day <= last:
        raise BadInput(
            f"{day} is not in the log: it runs from {first} to {last}. Choose a day of it, or add the day's file."
        )
    with (
        naming_the_file(),
        settings.lake.writing("land", day, settings=settings.digest(*SETTINGS)) as staging,
    ):
        for table in source.tables(day):
            rows = in_order(source.table(spark, table, day), table)
            staging.write(rows, table, keys=rows.columns, partitions=settings.spark.partitions)
            staging.facts[f"rows_{table}"] = parquet_rows(staging.path / table)
        staging.facts |= source.notes(day)


def parquet_rows(folder: Path) -> int:
    """Rows of the Parquet files in a folder, from their footers."""
    from pyarrow import parquet

    return sum(parquet.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
