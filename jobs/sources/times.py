"""How a time is read: by Spark, for the rows of a day, and by this process, for the days of a file.

The two must agree on every text. If they do not, rows vanish: a day is read from the wrong files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column

OFFSET = r"(?i:Z|[+-]\d\d:?\d\d)$"  # the end of a time that states its offset from UTC
ZONED = r":.*" + OFFSET  # the colon of a clock time first: the end of 2024-03-10 is no offset


def time_in_ms(column: Column, unit: str, timezone: str) -> Column:
    """Times as text -> milliseconds since 1970 in UTC, null where they cannot be read.

    unit: "s" or "ms" since 1970, or "iso" (2022-04-25, 2022-04-25 10:00:00, …). An ISO time
    without an offset is local to `timezone`. Independent of the session's time zone.
    """
    from pyspark.sql import functions as F

    if unit != "iso":
        scale = 1000 if unit == "s" else 1
        return F.round(column.try_cast("double") * scale).try_cast("bigint")
    text = F.trim(column)
    is_date = text.rlike(r"^\d{4}-\d\d-\d\d$")
    clock = F.when(is_date, F.concat(text, F.lit("T00:00:00"))).otherwise(text)
    local = F.concat(clock, F.lit(f" {timezone}"))
    zoned = F.when(text.rlike(ZONED), clock).otherwise(local)
    return F.unix_millis(zoned.try_cast("timestamp"))


def times_to_ms(times: pd.Series, unit: str, timezone: str) -> pd.Series:
    """The same as `time_in_ms`, in this process: float milliseconds, NaN for an unreadable time.

    In a column of timestamps, the unit is ignored.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(times):
        utc = times.dt.tz_convert("UTC") if times.dt.tz else to_utc(times, timezone)
        return since_1970_ms(utc)
    if unit == "iso":
        return since_1970_ms(iso_to_utc(times, timezone))
    scale = 1000.0 if unit == "s" else 1.0
    numbers = pd.to_numeric(times, errors="coerce").astype("float64")
    return (numbers * scale).round()


def iso_to_utc(times: pd.Series, timezone: str) -> pd.Series:
    """ISO texts in UTC, NaT where a text cannot be read."""
    import pandas as pd

    text = times.astype("string").str.strip()
    zoned = text.str.contains(ZONED).fillna(False).astype(bool)
    with_offset = pd.to_datetime(text.where(zoned), utc=True, errors="coerce", format="ISO8601")
    local = pd.to_datetime(text.mask(zoned), errors="coerce", format="ISO8601")
    return with_offset.fillna(to_utc(local, timezone))


def to_utc(local: pd.Series, timezone: str) -> pd.Series:
    """Clock times of that time zone, without offsets, in UTC."""
    # When clocks are set back, an hour occurs twice: the first is meant, as in Spark. When they are
    # set forward, an hour is missing, and a time within it becomes the first moment after it.
    first_of_two = [True] * len(local)
    zoned = local.dt.tz_localize(timezone, ambiguous=first_of_two, nonexistent="shift_forward")
    return zoned.dt.tz_convert("UTC")


def since_1970_ms(utc: pd.Series) -> pd.Series:
    import pandas as pd

    return (utc - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(milliseconds=1)
