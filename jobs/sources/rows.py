"""Reading rows: Spark reads whole rows; this process reads one column, to find a file's days.

All values of a CSV file arrive as text and are cast where they are used, so that an unreadable
value becomes null and never a wrong number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.sources.files import header_of, naming

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame, SparkSession

# --- whole rows, by Spark


def csv_rows(spark: SparkSession, file: Path, separator: str = ",") -> DataFrame:
    """A CSV file: every column as text without surrounding white space, null where it is empty."""
    columns = [f"`{name}` string" for name in header_of(file, separator)]
    return spark.read.csv(
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


# --- one column, by this process


def csv_column(file: Path, column: str, separator: str = ",") -> Iterator[pd.Series]:
    """One column of a CSV file as text, in batches.

    Lines with too few or too many fields are skipped.
    """
    import pyarrow as pa
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter=separator, invalid_row_handler=lambda _: "skip")
    # As text: Arrow would guess a type from the first block and fail on later rows.
    convert = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
    with naming(file):
        for batch in csv.open_csv(file, parse_options=parse, convert_options=convert):
            yield batch.column(0).to_pandas()


def parquet_column(file: Path, column: str) -> Iterator[pd.Series]:
    """One column of a Parquet file, in batches; dates as timestamps."""
    import pyarrow as pa
    from pyarrow import parquet

    with naming(file), parquet.ParquetFile(file) as stream:
        for batch in stream.iter_batches(columns=[column]):
            values = batch.column(0)
            if pa.types.is_date(values.type):  # pandas would hold them as Python objects
                values = values.cast(pa.timestamp("ms"))
            yield values.to_pandas()


def text_lines(file: Path) -> Iterator[pd.Series]:
    """The lines of a text file without surrounding white space, in batches."""
    import pyarrow as pa
    from pyarrow import csv

    # Arrow's CSV reader decompresses and streams; with a separator that no line holds, its single
    # column is the whole line.
    read = csv.ReadOptions(column_names=["line"])
    parse = csv.ParseOptions(delimiter="\x1f", quote_char=False)
    convert = csv.ConvertOptions(column_types={"line": pa.string()})
    with naming(file):
        stream = csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)
        for batch in stream:
            yield batch.column(0).to_pandas().str.strip()
