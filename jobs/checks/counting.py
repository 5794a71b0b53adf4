"""What one pass over the judged rows of a table finds: their reasons, and what is unusual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.checks.row_rules import KEY, TOO_LARGE, key_hash
from jobs.lake.schema import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

# Unit -> its length in milliseconds, the longest first.
RESOLUTIONS = {"days": 86_400_000, "hours": 3_600_000, "minutes": 60_000}

MOST_REPEATED = 100_000  # keys that are collected; with more, all rows are compared

# A good value to three digits: so few distinct ones that an exact median costs little memory.
DIGITS = "pow(10D, floor(log10(value)) - 2)"
COARSE_VALUE = f"case when reason = '' and value > 0 then round(value / {DIGITS}) * {DIGITS} end"
MEDIAN = f"percentile_disc(0.5) within group (order by {COARSE_VALUE})"


@dataclass(frozen=True)
class Counted:
    """reasons: the faults of a row -> number of rows with exactly these.

    resolution: "days", "hours" or "minutes" where all times are whole ones, else "". largest: kind
    -> the largest good value, of the kinds that have a larger one.
    """

    reasons: dict[str, int]
    resolution: str
    largest: dict[str, float]


def repeated_keys(rows: DataFrame, keys: list[str]) -> pa.Table | None:
    """One column KEY, the hash of every key that several rows have; None where these are many.

    Most days have few. To compare all rows with each other, they would have to be sorted whole.
    """
    from pyspark.sql import functions as F

    hashes = rows.select(F.expr(key_hash(keys)).alias(KEY))
    several = hashes.groupBy(KEY).count().where("count > 1").select(KEY)
    found = several.limit(MOST_REPEATED + 1).toArrow()
    return found if len(found) <= MOST_REPEATED else None


def count_reasons(rows: DataFrame, start_ms: int, max_ratio: float) -> Counted:
    """Count the rows by reason; compare the values with the median of their kind.

    start_ms: the day's midnight. max_ratio: largest good value in medians of the positive values
    of its kind; 0 compares none.
    """
    from pyspark.sql import functions as F

    found = [F.count("*").alias("n")]
    if "time_ms" in rows.columns:
        for unit, length in RESOLUTIONS.items():
            found.append(F.max(F.expr(since_midnight(start_ms, length))).alias(unit))
    keys = ["reason"]
    if max_ratio:
        keys.append("kind")
        found += [F.max("value").alias("most"), F.expr(MEDIAN).alias("median")]
    grouped = rows.groupBy(*keys).agg(*found).collect()
    reasons: dict[str, int] = {}
    largest = {}
    for group in grouped:
        reasons[group["reason"]] = reasons.get(group["reason"], 0) + group["n"]
        if max_ratio and group["reason"] == "" and group["median"]:
            bound = max_ratio * group["median"]
            if group["most"] > bound:
                largest[group["kind"]] = bound
    in_order = dict(sorted(reasons.items()))  # Spark's own order differs from run to run
    return Counted(in_order, resolution_of(grouped), dict(sorted(largest.items())))


def since_midnight(start_ms: int, length: int) -> str:
    """SQL for the milliseconds of `time_ms` beyond the last whole unit of a day that began then.

    length: of the unit. Of the midnight, only what the unit does not divide: it is mostly 0, and a
    number that differs from day to day would make Spark compile the query anew on every day. No
    time is too large or too small: what is subtracted from is shorter than the unit.
    """
    return f"pmod(pmod(time_ms, {length}) - {start_ms % length}, {length})"


def resolution_of(groups: list) -> str:
    """The longest unit of which every time of these groups is a whole one; "" for none."""
    for unit in RESOLUTIONS:
        rests = [group[unit] for group in groups if unit in group and group[unit] is not None]
        if rests and max(rests) == 0:
            return unit
    return ""


def flag_too_large(rows: DataFrame, largest: dict[str, float]) -> DataFrame:
    """The good rows above the largest good value of their kind get the reason TOO_LARGE."""
    from pyspark.sql import functions as F

    columns = [quoted(column) for column in rows.columns if column != "reason"]
    bounds = rows.sparkSession.createDataFrame(
        list(largest.items()), "kind string, _largest double"
    )
    beyond = (F.col("reason") == "") & (F.col("value") > F.col("_largest"))
    reason = F.when(beyond, F.lit(TOO_LARGE)).otherwise(F.col("reason"))
    joined = rows.join(F.broadcast(bounds), "kind", "left")
    return joined.select(*columns, reason.alias("reason"))
