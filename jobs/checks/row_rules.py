"""The rules for the rows of a day: one definition for the quarantine and for Great Expectations.

A rule is an SQL condition that is true for a bad row. Spark evaluates all rules once and writes the
names of those that a row breaks into its `reason`. The quarantine keeps the rows with a reason, and
Great Expectations receives the counts of the same reasons, so the two cannot disagree.

Three reasons are found by other means. A line that its reader could not read as a row has the
reader's `fault` and no other reason. A repeat is found among the rows without any fault, so that a
bad row never takes the place of a good one. What is too large is known once the others are counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from jobs.lake.schema import (
    CONSUMER_TABLE,
    ENGAGEMENT_TABLE,
    IMPRESSION_TABLE,
    ITEM_TABLE,
    quoted,
    with_prefix,
    without_provenance,
)
from jobs.settings import ValidationSettings
from jobs.sources.base import Source
from jobs.sources.days import HOUR_MS, day_bounds_ms

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

# Helper columns that `with_reason` adds and drops again. No column of the schema begins with an
# underscore, so a log cannot have one of the same name.
FAULTS = "_faults"
REPEAT_NUMBER = "_repeat_number"
KEY = "_key"
ITEM_KNOWN = "_item_known"

REPEAT = "repeat"
TOO_LARGE = "value_too_large"
MERGED = "merged"  # neither bad nor good: another row of the impression has its labels

TEXT_COLUMNS = ("consumer_id", "producer_id", "item_id", "kind")
LONGEST_TEXT = 1000  # bytes of a category

# `matrix` adds values as whole millionths: half of one is the smallest that counts, and above 2^53
# of them not every whole number is a float64.
SMALLEST_VALUE = 0.5 / 1e6
LARGEST_VALUE = 2**53 / 1e6

# What Unicode calls white space; SQL's trim knows the blank only.
BLANKS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True)
class Rule:
    """What a good row satisfies, and how to find the rows that do not.

    fault: the name of what is wrong, as in the quarantine's `reason`; without blanks.
    expects: the rule in words. broken: an SQL condition, true for a bad row and never null; empty
    for a fault that is found by other means.
    """

    fault: str
    expects: str
    broken: str = ""


ABOUT_VALUES = (
    Rule("value_not_a_number", "value is a number", "value is null or isnan(value)"),
    Rule("value_infinite", "value is finite", "coalesce(abs(value) = double('infinity'), false)"),
    Rule("value_negative", "value is not negative", "coalesce(value < 0, false)"),
    Rule(
        "value_too_small",
        f"value is 0 or at least {SMALLEST_VALUE:g}, the smallest that counts",
        f"coalesce(value > 0 and value < {SMALLEST_VALUE!r}D, false)",
    ),
    Rule(
        "value_beyond_exact_sums",
        f"value is at most {LARGEST_VALUE:.10g}, so that values add up exactly",
        f"coalesce(value > {LARGEST_VALUE!r}D and value < double('infinity'), false)",
    ),
)
DWELL_IS_NOT_NEGATIVE = Rule(
    "dwell_negative", "dwell_ms, where known, is not negative", "coalesce(dwell_ms < 0, false)"
)
ITEM_IS_KNOWN = Rule("item_unknown", "the item is in the day's table of items", f"not {ITEM_KNOWN}")


@dataclass(frozen=True)
class Evidence:
    """What is known about one table of a day before it is judged.

    columns, expected: column -> Spark type, as landed and in the schema.
    reasons: the faults of a row, separated by spaces -> number of rows with exactly these faults.
    merged: rows whose labels another row has taken over. resolution: "days", "hours" or "minutes"
    where all times are whole ones. min_rows: the smallest number of rows to accept; None: any.
    usual: where that number is from.
    """

    table: str
    columns: dict[str, str]
    expected: dict[str, str]
    rules: list[Rule]
    reasons: dict[str, int] = field(default_factory=dict)
    merged: int = 0
    resolution: str = ""
    min_rows: int | None = None
    usual: str = ""

    @property
    def bad_rows(self) -> int:
        """Number of rows with any fault; a row with two faults counts once."""
        good_rows = self.reasons.get("", 0)
        return sum(self.reasons.values()) - good_rows

    def by_fault(self) -> dict[str, int]:
        """Number of rows with each fault; a row with two faults counts for both."""
        counts = {rule.fault: 0 for rule in self.rules}  # a fault that no row has counts 0
        for reason, rows in self.reasons.items():
            for fault in reason.split():
                counts[fault] += rows
        return counts


def rules_for(
    table: str,
    columns: list[str],
    source: Source,
    day: date,
    limits: ValidationSettings,
    knows_items: bool,
) -> list[Rule]:
    """The rules for a table with these columns. knows_items: the day has a table of items."""
    provided = provided_columns(table, columns, source)
    rules = []
    for column in TEXT_COLUMNS:
        if column in provided:
            longest = LONGEST_TEXT if column == "kind" else limits.max_id_bytes
            rules += [present(column), is_text(column), not_longer(column, longest)]
    if "time_ms" in provided:
        rules.append(within_day(source, day))
    if "value" in provided:
        rules += ABOUT_VALUES
        if limits.max_value_ratio:
            rules.append(not_too_large(limits.max_value_ratio))
    if "dwell_ms" in provided:
        rules.append(DWELL_IS_NOT_NEGATIVE)
    for label in with_prefix(provided, "label_"):
        rules.append(zero_or_one(label))
    for context in with_prefix(provided, "ctx_"):
        rules.append(not_longer(context, LONGEST_TEXT))
    for number in with_prefix(provided, "num_"):
        rules.append(finite(number))
    if table == IMPRESSION_TABLE and knows_items:
        rules.append(ITEM_IS_KNOWN)
    return rules + not_repeated(table, columns, source, limits)


def provided_columns(table: str, columns: list[str], source: Source) -> list[str]:
    """The columns that the source provides; the schema's others are null in every row."""
    absent = source.absent(table)
    return [column for column in columns if column not in absent]


def fault_name(column: str, what: str) -> str:
    """The name of a fault of a column, whose own name may have blanks in it."""
    return re.sub(r"\s", "_", f"{column}_{what}")


def present(column: str) -> Rule:
    return Rule(
        f"{column}_missing",
        f"{column} is present and readable",
        f"{column} is null or trim(both '{BLANKS}' from {column}) = ''",
    )


def is_text(column: str) -> Rule:
    """Neither the registry nor NumPy can tell an id that ends with a NUL from one without it."""
    return Rule(
        f"{column}_not_text",
        f"{column} is UTF-8 without a NUL",
        f"coalesce(contains({column}, chr(0)) or not is_valid_utf8({column}), false)",
    )


def not_longer(column: str, longest: int) -> Rule:
    return Rule(
        fault_name(column, "too_long"),
        f"{column} has at most {longest:,} bytes",
        f"coalesce(octet_length({quoted(column)}) > {longest}, false)",
    )


def not_too_large(ratio: float) -> Rule:
    return Rule(
        TOO_LARGE,
        f"value is at most {ratio:,g} times the median of its kind (validation.max_value_ratio)",
    )


def finite(column: str) -> Rule:
    return Rule(
        fault_name(column, "infinite"),
        f"{column}, where known, is finite",
        f"coalesce(abs({quoted(column)}) = double('infinity'), false)",
    )


def zero_or_one(label: str) -> Rule:
    name = quoted(label)
    return Rule(
        fault_name(label, "not_0_or_1"),
        f"{label} is 0 or 1",
        f"{name} is null or {name} not in (0, 1)",
    )


def within_day(source: Source, day: date) -> Rule:
    """The time is within the day in the log's time zone, extended by the source's slack."""
    start, end = day_bounds_ms(day, source.timezone)
    slack_ms = int(source.slack_h * HOUR_MS)
    slack = f", plus or minus {source.slack_h:g} h" if slack_ms else ""
    return Rule(
        "time_outside_day",
        f"time_ms is within {day} ({source.timezone}{slack})",
        f"time_ms is null or time_ms < {start - slack_ms} or time_ms >= {end + slack_ms}",
    )


def read_as_row(fault: str) -> Rule:
    """The rule that a line breaks which could not be read, by the name that its reader gave it."""
    return Rule(fault, "the line can be read as a row")


# --- repeats


def not_repeated(
    table: str, columns: list[str], source: Source, limits: ValidationSettings
) -> list[Rule]:
    """The rule on repeats; none where repeats cannot be recognised or are merged."""
    keys = repeat_keys(table, columns, source, limits)
    if not keys or merges(table, limits):
        return []
    if limits.repeats == "all" and table in (IMPRESSION_TABLE, ENGAGEMENT_TABLE):
        return [Rule(REPEAT, "no earlier row is the same in all columns")]
    return [Rule(REPEAT, f"no earlier row has the same {', '.join(keys)}")]


def merges(table: str, limits: ValidationSettings) -> bool:
    return limits.merge_labels and table == IMPRESSION_TABLE


def repeat_keys(
    table: str, columns: list[str], source: Source, limits: ValidationSettings
) -> list[str]:
    """The columns in which no two rows may be equal; empty where repeats cannot be recognised."""
    if table == CONSUMER_TABLE:
        return ["consumer_id"]
    if table == ITEM_TABLE:
        return ["item_id"]
    provided = provided_columns(table, columns, source)
    # Without times, a second engagement looks the same as a repeat of the first.
    if "time_ms" not in provided:
        return []
    if not merges(table, limits):
        if limits.repeats == "none":
            return []
        if limits.repeats == "all":
            return without_provenance(provided)
    return [column for column in (*TEXT_COLUMNS, "time_ms") if column in provided]


# --- judging


def key_hash(keys: list[str]) -> str:
    """SQL for 64 bits of the values in these columns: equal rows have equal ones."""
    return f"xxhash64({', '.join(map(quoted, keys))})"


def with_reason(
    rows: DataFrame,
    rules: list[Rule],
    keys: list[str],
    known_items: DataFrame | None,
    merge: bool = False,
    repeated: pa.Table | None = None,
) -> DataFrame:
    """The rows with a column `reason`: their faults, separated by spaces; empty for a good row.

    keys: of the rows without a fault that are equal in these columns the first is good: in the
    order of the log where it is known, or else of all columns. merge: it has the maximum of their
    labels and of dwell_ms and the earliest time of each label, and the reason of the others is
    MERGED. known_items: one column item_id, without repeats; for the rule `item_unknown`.
    repeated: one column KEY, every `key_hash` that several rows have: only these rows are compared
    with each other. None: all are.
    """
    from pyspark.sql import functions as F

    columns = [quoted(column) for column in rows.columns]
    if known_items is not None:
        known = known_items.withColumn(ITEM_KNOWN, F.lit(True))
        rows = rows.join(known, "item_id", "left")
        # The left join gives null for an unknown item, but a rule's condition must not be null.
        rows = rows.withColumn(ITEM_KNOWN, F.coalesce(ITEM_KNOWN, F.lit(False)))
    rows = rows.withColumn(FAULTS, faults_of(rules, rows.columns))
    if not keys:
        judged = rows.withColumn("reason", F.col(FAULTS))
    elif repeated is None:
        judged = first_is_good(rows, keys, merge)
    else:
        rows = rows.withColumn(KEY, F.expr(key_hash(keys)))
        # With its type, which a Connect session does not take from a table without rows.
        several = F.broadcast(rows.sparkSession.createDataFrame(repeated, f"{KEY} long"))
        alone = rows.join(several, KEY, "left_anti").withColumn("reason", F.col(FAULTS))
        compared = first_is_good(rows.join(several, KEY, "left_semi"), keys, merge)
        judged = alone.select(*columns, "reason").unionAll(compared.select(*columns, "reason"))
    return judged.select(*columns, "reason")


def first_is_good(rows: DataFrame, keys: list[str], merge: bool) -> DataFrame:
    """The rows with FAULTS, and as `reason` these or that another row with equal keys is first."""
    from pyspark.sql import functions as F
    from pyspark.sql.window import Window

    columns = [quoted(column) for column in rows.columns if not column.startswith("_")]
    # A row with a fault is behind those without: it is a repeat of none, and none of it.
    alike = Window.partitionBy(FAULTS, *map(quoted, keys))
    first = alike.orderBy(*order_of(rows.columns, columns))
    rows = rows.withColumn(REPEAT_NUMBER, F.row_number().over(first))
    later = F.lit(MERGED if merge else REPEAT)
    is_later = (F.col(FAULTS) == "") & (F.col(REPEAT_NUMBER) > 1)
    rows = rows.withColumn("reason", F.when(is_later, later).otherwise(F.col(FAULTS)))
    if merge:
        for column in outcomes(rows.columns):
            # A label became 1 with the first row that says so.
            best = F.min if column.startswith("at_") else F.max
            most = best(quoted(column)).over(alike)
            landed = F.col(quoted(column))
            rows = rows.withColumn(column, F.when(F.col(FAULTS) == "", most).otherwise(landed))
    return rows


def order_of(names: list[str], columns: list[str]) -> list[str]:
    """What orders rows totally: their place in the log, or else, whatever Spark's order, all."""
    place = ["source_file", "source_line"]
    return [*place, *columns] if set(place) <= set(names) else columns


def outcomes(columns: list[str]) -> list[str]:
    """The columns of an impression that a later row of it may add to."""
    return [
        column for column in columns if column == "dwell_ms" or column.startswith(("label_", "at_"))
    ]


def faults_of(rules: list[Rule], columns: list[str]) -> Column:
    """The reader's fault of a row, or else the faults of the rules that it breaks."""
    from pyspark.sql import functions as F

    faults = []
    for rule in rules:
        if rule.broken:
            # `when` without `otherwise` is null, and concat_ws skips nulls.
            faults.append(F.when(F.expr(rule.broken), F.lit(rule.fault)))
    broken = F.concat_ws(" ", *faults)
    return F.coalesce("fault", broken) if "fault" in columns else broken
