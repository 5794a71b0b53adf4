"""Rows of tables that have no days, such as profiles; the log itself is read by `jobs.intake`.

All values of a CSV file arrive as text and are cast where they are used, so that an unreadable
value becomes null and never a wrong number.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.lake.store import NO_PATTERNS
from jobs.sources.files import header_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


def csv_rows(spark: SparkSession, file: Path, separator: str = ",") -> DataFrame:
    """A CSV file: every column as text without surrounding white space, null where it is empty."""
    columns = [f"`{name}` string" for name in header_of(file, separator)]
    return spark.read.options(**NO_PATTERNS).csv(
        str(file),
        schema=", ".join(columns),
        header=True,
        sep=separator,
        escape='"',  # a quote in a quoted field is doubled; Spark expects a backslash by default
        mode="PERMISSIVE",
        ignoreLeadingWhiteSpace=True,
        ignoreTrailingWhiteSpace=True,
    )


def union(frames: list[DataFrame]) -> DataFrame:
    """All rows of the frames, columns matched by name."""
    return reduce(lambda one, other: one.unionByName(other), frames)


def quoted(name: str) -> Column:
    """The column of exactly that name, whatever characters it contains."""
    from pyspark.sql import functions as F

    return F.col("`" + name.replace("`", "``") + "`")


def whole_number(column: Column) -> Column:
    """Text -> bigint, null where it is not a whole number."""
    return column.try_cast("bigint")


def id_of_number(column: Column) -> Column:
    """An id that must be a whole number, as text; null where it is not."""
    return whole_number(column).cast("string")


def category(column: Column) -> Column:
    """A category as text: '4.0' and '4' are the same one."""
    from pyspark.sql import functions as F

    return F.regexp_replace(column, r"^(-?\d+)\.0$", "$1")
