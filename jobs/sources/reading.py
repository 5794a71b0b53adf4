"""What the sources share: finding files, reading their columns as text, and telling days apart.

Spark reads the rows; this process reads headers and, once, the column of times (for the span of the log). All values
arrive as text and are cast where they are used, so that a value that cannot be read is null, never a wrong number.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from jobs.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame, SparkSession

HOUR_MS = 3_600_000
MAX_UNDATED_SHARE = (
    0.05  # of a file's rows; with more, the column or its unit is not what the settings say
)
OFFSET = r"(?i:Z|[+-]\d\d:?\d\d)$"  # a time that says its own distance from UTC

Span = tuple[date, date]


def day_bounds_ms(day: date, timezone: str) -> tuple[int, int]:
    """First millisecond of the day in that time zone, and of the next day, since 1970 in UTC."""
    midnights = (
        datetime(d.year, d.month, d.day, tzinfo=ZoneInfo(timezone))
        for d in (day, day + timedelta(days=1))
    )
    start, end = (int(midnight.timestamp()) * 1000 for midnight in midnights)
    return start, end


def day_of_ms(time_ms: int, timezone: str) -> date:
    """The day of a moment in that time zone. Raises OverflowError or ValueError beyond the year 9999."""
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms))
        .astimezone(ZoneInfo(timezone))
        .date()
    )


# --- files -------------------------------------------------------------------------------------------------------


def find_files(path: Path, setting: str = "source.path") -> list[Path]:
    """A file, all files below a folder, or what a glob matches; sorted. Hidden files and _SUCCESS marks are no data."""
    if path.is_file():
        return [path]
    found = (
        path.rglob("*")
        if path.is_dir()
        else Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    )
    files = sorted(
        file for file in found if file.is_file() and not file.name.startswith((".", "_"))
    )
    if not files:
        raise BadInput(
            f"There is no file at {path}. Set {setting} to a file, a folder with files, or a glob."
        )
    return files


def header_of(file: Path, separator: str = ",") -> tuple[str, ...]:
    """The column names in the first line of a CSV file, gzipped or not."""
    import csv

    with reading(file), gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
        names = next(csv.reader(stream, delimiter=separator), [])
    if not names:
        raise BadInput(f"{file} is empty; expected a header line with the names of its columns.")
    return tuple(name.strip().removeprefix("\ufeff") for name in names)


def require_columns(file: Path, has: Iterable[str], wanted: dict[str, str]) -> None:
    """wanted: the columns that must be there -> what to do when one is not."""
    has = list(has)
    for column, remedy in wanted.items():
        if column not in has:
            raise BadInput(f"{file} has no column '{column}'. It has: {', '.join(has)}. {remedy}")


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """What goes wrong while this process reads the file becomes BadInput with its name."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise BadInput(
            f"{file} cannot be read: {error}. It may be cut off or not in the format of its name; fetch it again."
        ) from error


@contextmanager
def naming_the_file() -> Iterator[None]:
    """A Spark job that fails on a file it cannot read becomes BadInput with that file's name, classic or Connect."""
    try:
        yield
    except Exception as error:
        if (
            found := re.search(
                r"FAILED_READ_FILE.*?reading file (?:file:/*(?=/))?(\S+?)\.?\s", str(error), re.S
            )
        ) is None:
            raise
        raise BadInput(
            f"{found[1]} cannot be read to its end. It may be cut off or damaged; fetch it again."
        ) from error


# --- rows, by Spark ----------------------------------------------------------------------------------------------


def csv_rows(spark: SparkSession, files: list[Path], separator: str = ",") -> DataFrame:
    """CSV files that share one header: every column as text, white space around it cut off, null where it is empty."""
    schema = ", ".join(f"`{name}` string" for name in header_of(files[0], separator))
    trim = {"ignoreLeadingWhiteSpace": True, "ignoreTrailingWhiteSpace": True}
    options = {"header": True, "sep": separator, "escape": '"', "mode": "PERMISSIVE"} | trim
    return spark.read.csv([str(file) for file in files], schema=schema, **options)  # type: ignore[arg-type]


def union(frames: list[DataFrame]) -> DataFrame:
    return reduce(lambda one, other: one.unionByName(other), frames)


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


def time_in_ms(column: Column, unit: str, timezone: str) -> Column:
    """Times as text -> milliseconds since 1970 in UTC, null where they cannot be read.

    unit: "s" or "ms" since 1970, or "iso" (2022-04-25, 2022-04-25 10:00:00, …); an iso time without an offset is
    meant in `timezone`. Independent of the session's time zone.
    """
    from pyspark.sql import functions as F

    if unit != "iso":
        return F.round(column.try_cast("double") * (1000 if unit == "s" else 1)).try_cast("bigint")
    text = F.trim(column)
    clock = F.when(text.rlike(r"^\d{4}-\d\d-\d\d$"), F.concat(text, F.lit("T00:00:00"))).otherwise(
        text
    )
    zoned = F.when(text.rlike(r":.*" + OFFSET), clock).otherwise(
        F.concat(clock, F.lit(f" {timezone}"))
    )
    return F.unix_millis(zoned.try_cast("timestamp"))


# --- the span, by this process -----------------------------------------------------------------------------------


def csv_column(file: Path, column: str, separator: str = ",") -> Iterator[pd.Series]:
    """One column of a CSV file as text, batch by batch; a line with too few or too many fields is passed over."""
    import pyarrow as pa
    from pyarrow import csv

    with reading(file):
        stream = csv.open_csv(
            file,
            parse_options=csv.ParseOptions(
                delimiter=separator, invalid_row_handler=lambda _: "skip"
            ),
            convert_options=csv.ConvertOptions(
                include_columns=[column], column_types={column: pa.string()}
            ),
        )
        for batch in stream:
            yield batch.column(0).to_pandas()


def parquet_column(file: Path, column: str) -> Iterator[pd.Series]:
    """One column of a Parquet file, batch by batch."""
    import pyarrow as pa
    from pyarrow import parquet

    with reading(file), parquet.ParquetFile(file) as stream:
        for batch in stream.iter_batches(columns=[column]):
            values = batch.column(0)
            yield (
                values.cast(pa.timestamp("ms")) if pa.types.is_date(values.type) else values
            ).to_pandas()


def times_to_ms(times: pd.Series, unit: str, timezone: str) -> pd.Series:
    """The same as `time_in_ms`, in this process: float milliseconds, NaN where a time cannot be read."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(times):
        utc = times.dt.tz_convert("UTC") if times.dt.tz else to_utc(times, timezone)
    elif unit != "iso":
        return (
            pd.to_numeric(times, errors="coerce").astype("float64")
            * (1000.0 if unit == "s" else 1.0)
        ).round()
    else:
        text = times.astype("string").str.strip()
        zoned = text.str.contains(r":.*" + OFFSET).fillna(False).astype(bool)
        utc = pd.to_datetime(text.where(zoned), utc=True, errors="coerce", format="ISO8601").fillna(
            to_utc(pd.to_datetime(text.mask(zoned), errors="coerce", format="ISO8601"), timezone)
        )
    return (utc - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(milliseconds=1)


def to_utc(local: pd.Series, timezone: str) -> pd.Series:
    """Clock times without an offset, as they stand in that time zone, in UTC."""
    first_of_two = [True] * len(local)  # an hour that a clock change repeats
    return local.dt.tz_localize(
        timezone, ambiguous=first_of_two, nonexistent="shift_forward"
    ).dt.tz_convert("UTC")


def span_of(
    file: Path, batches: Iterable[pd.Series], to_day: Callable[[float], date], what: str
) -> tuple[Span, int]:
    """First and last day of a file's times (any number that grows with time, NaN: unreadable), and its undated rows.

    to_day: from such a number to its day. what: the column and how it was read, for the message of BadInput.
    """
    low, high, rows, undated = float("inf"), float("-inf"), 0, 0
    for batch in batches:
        rows, undated = rows + len(batch), undated + int(batch.isna().sum())
        low, high = min(low, batch.min()), max(high, batch.max())
    if rows == 0:
        raise BadInput(f"{file} has no rows.")
    if undated > MAX_UNDATED_SHARE * rows:
        raise BadInput(f"{file}: {undated:,} of {rows:,} rows have no readable time in {what}.")
    try:
        return (to_day(low), to_day(high)), undated
    except (OverflowError, ValueError):
        raise BadInput(f"{file}: the times in {what} reach beyond the year 9999.") from None


def whole_span(spans: Iterable[Span]) -> Span:
    """From the first of all days to the last."""
    firsts, lasts = zip(*spans, strict=True)
    return min(firsts), max(lasts)
