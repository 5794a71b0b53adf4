"""What every row of a day must satisfy: the one definition behind the quarantine and the Great Expectations suites.

A rule is an SQL condition that is true for a bad row. Spark evaluates all of them once and writes the names of those
that a row breaks into its `reason`; the quarantine keeps the rows with a reason, and Great Expectations is given the
same reasons, so the two cannot disagree.
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

REPEAT_NUMBER, ITEM_KNOWN = "_repeat_number", "_item_known"  # helper columns, see `with_reason`


@dataclass(frozen=True)
class Rule:
    """fault: what is wrong, as the quarantine calls it. expects: the rule in words. broken: SQL, never null."""

    fault: str
    expects: str
    broken: str


@dataclass(frozen=True)
class Evidence:
    """What is known of one table of a day when it comes to be judged.

    columns, expected: column -> Spark type, as landed and as the schema has it. reasons: the faults of a row, separated
    by spaces -> how many rows have just these. min_rows: fewer are too few (None: not judged); usual: why that many.
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
        return sum(rows for reason, rows in self.reasons.items() if reason)

    def by_fault(self) -> dict[str, int]:
        """Rows with each fault; a row with two counts for both."""
        return {
            rule.fault: sum(n for why, n in self.reasons.items() if rule.fault in why.split())
            for rule in self.rules
        }


def rules_for(
    table: str, columns: list[str], source: Source, day: date, knows_items: bool
) -> list[Rule]:
    """The rules of a table with these columns. knows_items: the day has a table of items to compare with."""
    has = present_columns(table, columns, source)
    rules = [
        present(column)
        for column in ("consumer_id", "producer_id", "item_id", "kind")
        if column in has
    ]
    if "time_ms" in has:
        rules.append(within_day(source, day))
    if "value" in has:
        rules.append(
            Rule("value_not_a_number", "value is a number", "value is null or isnan(value)")
        )
    if "dwell_ms" in has:
        rules.append(
            Rule(
                "dwell_negative",
                "dwell_ms, where known, is not negative",
                "coalesce(dwell_ms < 0, false)",
            )
        )
    rules += [zero_or_one(label) for label in with_prefix(has, "label_")]
    if table == IMPRESSION_TABLE and knows_items:
        rules.append(
            Rule("item_unknown", "the item is in the day's table of items", f"not {ITEM_KNOWN}")
        )
    if keys := repeat_keys(table, columns, source):
        rules.append(
            Rule("repeat", f"no earlier row has the same {', '.join(keys)}", f"{REPEAT_NUMBER} > 1")
        )
    return rules


def present_columns(table: str, columns: list[str], source: Source) -> list[str]:
    return [column for column in columns if column not in source.absent(table)]


def present(column: str) -> Rule:
    return Rule(
        f"{column}_missing",
        f"{column} is there and can be read",
        f"{column} is null or trim({column}) = ''",
    )


def zero_or_one(label: str) -> Rule:
    return Rule(
        f"{label}_not_0_or_1", f"{label} is 0 or 1", f"`{label}` is null or `{label}` not in (0, 1)"
    )


def within_day(source: Source, day: date) -> Rule:
    """The log's own day, in its time zone, give or take the hours by which it may differ."""
    start, end = day_bounds_ms(day, source.timezone)
    slack_ms = int(source.slack_h * HOUR_MS)
    slack = f", give or take {source.slack_h:g} h" if slack_ms else ""
    return Rule(
        "time_outside_day",
        f"time_ms lies in {day} ({source.timezone}{slack})",
        f"time_ms is null or time_ms < {start - slack_ms} or time_ms >= {end + slack_ms}",
    )


def repeat_keys(table: str, columns: list[str], source: Source) -> list[str]:
    """The columns that no two rows share. Without times a second engagement cannot be told from a repeat: none."""
    has = present_columns(table, columns, source)
    if table == CONSUMER_TABLE:
        return ["consumer_id"]
    if table == ITEM_TABLE:
        return ["item_id"]
    if "time_ms" not in has:
        return []
    return [
        column
        for column in ("consumer_id", "producer_id", "item_id", "kind", "time_ms")
        if column in has
    ]


def with_reason(
    rows: DataFrame, rules: list[Rule], keys: list[str], known_items: DataFrame | None
) -> DataFrame:
    """The rows with a column `reason`: the faults of a row, separated by spaces, empty for a good row.

    keys: the columns that make a repeat; the first in the order of all columns is the one that is kept.
    known_items: one column item_id, without repeats; needed by the rule `item_unknown`.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.window import Window

    columns = rows.columns
    if keys:
        same = Window.partitionBy(*keys).orderBy(*(F.col(f"`{column}`") for column in columns))
        rows = rows.withColumn(REPEAT_NUMBER, F.row_number().over(same))
    if known_items is not None:
        known = known_items.withColumn(ITEM_KNOWN, F.lit(True))
        rows = rows.join(known, "item_id", "left").withColumn(
            ITEM_KNOWN, F.coalesce(ITEM_KNOWN, F.lit(False))
        )
    return rows.withColumn("reason", reason(rules)).select(
        *(f"`{column}`" for column in columns), "reason"
    )


def reason(rules: list[Rule]) -> Column:
    from pyspark.sql import functions as F

    return F.concat_ws(" ", *(F.when(F.expr(rule.broken), F.lit(rule.fault)) for rule in rules))
