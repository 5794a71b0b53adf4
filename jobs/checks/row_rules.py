"""The rules for the rows of a day: one definition for the quarantine and for Great Expectations.

A rule is an SQL condition that is true for a bad row. Spark evaluates all rules once and writes the
names of those that a row breaks into its `reason`. The quarantine keeps the rows with a reason, and
Great Expectations receives the counts of the same reasons, so the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from jobs.lake.schema import CONSUMER_TABLE, IMPRESSION_TABLE, ITEM_TABLE, with_prefix
from jobs.sources.base import Source
from jobs.sources.days import HOUR_MS, day_bounds_ms

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

# Helper columns that `with_reason` adds for the rules and drops again. No column of the schema
# begins with an underscore, so a log cannot have one of the same name.
REPEAT_NUMBER = "_repeat_number"
ITEM_KNOWN = "_item_known"


@dataclass(frozen=True)
class Rule:
    """What a good row satisfies, and how to find the rows that do not.

    fault: the name of what is wrong, as in the quarantine's `reason`.
    expects: the rule in words. broken: an SQL condition, true for a bad row and never null.
    """

    fault: str
    expects: str
    broken: str


TEXT_COLUMNS = ("consumer_id", "producer_id", "item_id", "kind")
VALUE_IS_A_NUMBER = Rule("value_not_a_number", "value is a number", "value is null or isnan(value)")
DWELL_IS_NOT_NEGATIVE = Rule(
    "dwell_negative", "dwell_ms, where known, is not negative", "coalesce(dwell_ms < 0, false)"
)
ITEM_IS_KNOWN = Rule("item_unknown", "the item is in the day's table of items", f"not {ITEM_KNOWN}")


@dataclass(frozen=True)
class Evidence:
    """What is known about one table of a day before it is judged.

    columns, expected: column -> Spark type, as landed and in the schema.
    reasons: the faults of a row, separated by spaces -> number of rows with exactly these faults.
    min_rows: the smallest number of rows to accept; None: any. usual: where that number is from.
    """

    table: str
    columns: dict[str, str]
    expected: dict[str, str]
    rules: list[Rule]
    reasons: dict[str, int] = field(default_factory=dict)
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
    table: str, columns: list[str], source: Source, day: date, knows_items: bool
) -> list[Rule]:
    """The rules for a table with these columns. knows_items: the day has a table of items."""
    provided = provided_columns(table, columns, source)
    rules = []
    for column in TEXT_COLUMNS:
        if column in provided:
            rules.append(present(column))
    if "time_ms" in provided:
        rules.append(within_day(source, day))
    if "value" in provided:
        rules.append(VALUE_IS_A_NUMBER)
    if "dwell_ms" in provided:
        rules.append(DWELL_IS_NOT_NEGATIVE)
    for label in with_prefix(provided, "label_"):
        rules.append(zero_or_one(label))
    if table == IMPRESSION_TABLE and knows_items:
        rules.append(ITEM_IS_KNOWN)
    keys = repeat_keys(table, columns, source)
    if keys:
        expects = f"no earlier row has the same {', '.join(keys)}"
        rules.append(Rule("repeat", expects, f"{REPEAT_NUMBER} > 1"))
    return rules


def provided_columns(table: str, columns: list[str], source: Source) -> list[str]:
    """The columns that the source provides; the schema's others are null in every row."""
    absent = source.absent(table)
    return [column for column in columns if column not in absent]


def present(column: str) -> Rule:
    return Rule(
        f"{column}_missing",
        f"{column} is present and readable",
        f"{column} is null or trim({column}) = ''",
    )


def zero_or_one(label: str) -> Rule:
    return Rule(
        f"{label}_not_0_or_1", f"{label} is 0 or 1", f"`{label}` is null or `{label}` not in (0, 1)"
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


def repeat_keys(table: str, columns: list[str], source: Source) -> list[str]:
    """The columns in which no two rows may be equal; empty where repeats cannot be recognised."""
    if table == CONSUMER_TABLE:
        return ["consumer_id"]
    if table == ITEM_TABLE:
        return ["item_id"]
    provided = provided_columns(table, columns, source)
    # Without times, a second engagement looks the same as a repeat of the first.
    if "time_ms" not in provided:
        return []
    return [column for column in (*TEXT_COLUMNS, "time_ms") if column in provided]


def with_reason(
    rows: DataFrame, rules: list[Rule], keys: list[str], known_items: DataFrame | None
) -> DataFrame:
    """The rows with a column `reason`: their faults, separated by spaces; empty for a good row.

    keys: rows that are equal in these columns are repeats; the first of them, in the order of all
    columns, is good. known_items: one column item_id, without repeats; for the rule `item_unknown`.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.window import Window

    columns = [f"`{column}`" for column in rows.columns]  # quoted: a name may have a dot in it
    if keys:
        # Ordered by all columns, so that the row that is kept does not depend on Spark's order.
        repeats = Window.partitionBy(*keys).orderBy(*columns)
        rows = rows.withColumn(REPEAT_NUMBER, F.row_number().over(repeats))
    if known_items is not None:
        known = known_items.withColumn(ITEM_KNOWN, F.lit(True))
        rows = rows.join(known, "item_id", "left")
        # The left join gives null for an unknown item, but a rule's condition must not be null.
        rows = rows.withColumn(ITEM_KNOWN, F.coalesce(ITEM_KNOWN, F.lit(False)))
    return rows.withColumn("reason", reason(rules)).select(*columns, "reason")


def reason(rules: list[Rule]) -> Column:
    """The faults of the rules that a row breaks, separated by spaces."""
    from pyspark.sql import functions as F

    faults = []
    for rule in rules:
        # `when` without `otherwise` is null, and concat_ws skips nulls.
        faults.append(F.when(F.expr(rule.broken), F.lit(rule.fault)))
    return F.concat_ws(" ", *faults)
