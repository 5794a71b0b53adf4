"""The columns that every step agrees on. Ids are strings: one source's numbers are another's names.

The prefix of a name is the column's role in the ranker: `label_*` 0/1 outcomes, `at_*` their times,
`ctx_*` categories known when the item is shown, `cat_*` categories and `num_*` numbers of a
consumer or an item. `bag_*` columns of a consumer are lists of texts: only embedders read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One row per engagement. time_ms: UTC milliseconds, null where the source has no times.
# value: how much (1, seconds).
ENGAGEMENTS = ("consumer_id", "producer_id", "item_id", "kind", "value", "time_ms")
# One row per item shown, engaged with or not, then label_*, at_* (UTC milliseconds at which the
# label became 1, where the source knows) and ctx_* columns. dwell_ms may be null.
IMPRESSIONS = ("consumer_id", "producer_id", "item_id", "time_ms", "dwell_ms")
# One row per consumer or item as known on that day, then cat_* and num_* columns, and bag_* columns
# of a consumer.
CONSUMERS = ("consumer_id",)
ITEMS = ("item_id", "producer_id")

ENGAGEMENT_TABLE = "engagements"
IMPRESSION_TABLE = "impressions"
CONSUMER_TABLE = "consumers"
ITEM_TABLE = "items"

# How a row came out of a file: the file below the log's folder, its line, the line's text where
# something in it could not be read, and the name of the fault that kept it from being a row. Landed
# tables that are read from files have all four, quarantined ones keep them, clean ones have none.
PROVENANCE = ("source_file", "source_line", "raw", "fault")

# Table -> the columns that it must have, and the prefixes of those that it may have.
TABLES = {
    ENGAGEMENT_TABLE: (ENGAGEMENTS, ()),
    IMPRESSION_TABLE: (IMPRESSIONS, ("label_", "at_", "ctx_")),
    CONSUMER_TABLE: (CONSUMERS, ("cat_", "num_", "bag_")),
    ITEM_TABLE: (ITEMS, ("cat_", "num_")),
}

# Tables of features that the loop publishes: no embedding can have such a name.
PRODUCER_FEATURES = "producers"
PROFILE_FEATURES = {"consumer": "profile", "item": "item_profile"}  # entity -> table
FEATURE_TABLES = (
    PRODUCER_FEATURES,
    *PROFILE_FEATURES.values(),
    "consumer_counts",
    "producer_counts",
    "item_counts",
)

# Spark types. The required columns that are not named here are strings.
TYPES = {"value": "double", "time_ms": "bigint", "dwell_ms": "bigint", "source_line": "bigint"}
PREFIX_TYPES = {
    "label_": "int",
    "at_": "bigint",
    "ctx_": "string",
    "cat_": "string",
    "num_": "double",
    "bag_": "array<string>",
}


def quoted(name: str) -> str:
    """A column's name in Spark's SQL, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def with_prefix(columns: list[str], prefix: str) -> list[str]:
    """The columns of one role, in their order."""
    return [column for column in columns if column.startswith(prefix)]


def expected_columns(table: str, columns: list[str]) -> dict[str, str]:
    """Column -> Spark type, in order: the required ones, then those of `columns` that may exist.

    A table with one column of the provenance must have all of them; they are last.
    """
    required, prefixes = TABLES[table]
    expected = {column: TYPES.get(column, "string") for column in required}
    for prefix in prefixes:
        for column in with_prefix(columns, prefix):
            expected[column] = PREFIX_TYPES[prefix]
    if not set(PROVENANCE).isdisjoint(columns):
        expected |= {column: TYPES.get(column, "string") for column in PROVENANCE}
    return expected


def without_provenance(columns: list[str]) -> list[str]:
    """What a row says, without where it was read; in their order."""
    return [column for column in columns if column not in PROVENANCE]


def in_order(rows: DataFrame, table: str) -> DataFrame:
    """The table's columns in the order and types of the schema; other columns are dropped."""
    from pyspark.sql import functions as F

    selected = []
    for column, kind in expected_columns(table, rows.columns).items():
        selected.append(F.col(quoted(column)).cast(kind).alias(column))
    return rows.select(*selected)
