"""The columns that every step agrees on. Ids are strings: a number of one source is a text of another.

Names tell a column's role in the ranker: `label_*` 0/1 outcomes, `ctx_*` categories known when the item is shown,
`cat_*` categories and `num_*` numbers of a consumer's profile or an item's facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One row an engagement. time_ms: UTC milliseconds, null where the source has no times. value: how much (1, seconds).
ENGAGEMENTS = ("consumer_id", "producer_id", "item_id", "kind", "value", "time_ms")
# One row an item shown, engaged with or not, then label_* (int) and ctx_* (string) columns. dwell_ms may be null.
IMPRESSIONS = ("consumer_id", "producer_id", "item_id", "time_ms", "dwell_ms")
# One row an entity as known on that day, followed by cat_* (string) and num_* (double) columns.
CONSUMERS = ("consumer_id",)
ITEMS = ("item_id", "producer_id")

ENGAGEMENT_TABLE, IMPRESSION_TABLE, CONSUMER_TABLE, ITEM_TABLE = (
    "engagements",
    "impressions",
    "consumers",
    "items",
)


def with_prefix(columns: list[str], prefix: str) -> list[str]:
    """The columns of one role, in their own order."""
    return [column for column in columns if column.startswith(prefix)]


# The columns that a table must have and the prefixes of those that it may have; and the Spark type of each.
TABLES = {
    ENGAGEMENT_TABLE: (ENGAGEMENTS, ()),
    IMPRESSION_TABLE: (IMPRESSIONS, ("label_", "ctx_")),
    CONSUMER_TABLE: (CONSUMERS, ("cat_", "num_")),
    ITEM_TABLE: (ITEMS, ("cat_", "num_")),
}
TYPES = {
    "value": "double",
    "time_ms": "bigint",
    "dwell_ms": "bigint",
}  # the other fixed columns are strings
PREFIX_TYPES = {"label_": "int", "ctx_": "string", "cat_": "string", "num_": "double"}


def expected_columns(table: str, columns: list[str]) -> dict[str, str]:
    """Column -> Spark type, in order: what the table must have, then those of `columns` with one of its prefixes."""
    fixed, prefixes = TABLES[table]
    free = {
        column: PREFIX_TYPES[prefix]
        for prefix in prefixes
        for column in with_prefix(columns, prefix)
    }
    return {column: TYPES.get(column, "string") for column in fixed} | free


def in_order(rows: DataFrame, table: str) -> DataFrame:
    """The table's columns in the order and types of the schema; anything else is dropped."""
    from pyspark.sql import functions as F

    wanted = expected_columns(table, rows.columns)
    return rows.select(
        *(F.col(f"`{column}`").cast(kind).alias(column) for column, kind in wanted.items())
    )
