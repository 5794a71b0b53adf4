"""Impressions joined with the profiles of the consumers and items in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jobs.features.columns import bucket, profile_column, profile_numbers, raw_column
from jobs.features.past_counts import IDS
from jobs.lake.schema import CONSUMER_TABLE, ITEM_TABLE, quoted, with_prefix
from jobs.lake.store import Partition
from models.features import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PROFILES = {"consumer": CONSUMER_TABLE, "item": ITEM_TABLE}  # entity -> table of its profiles


def read_profiles(spark: SparkSession, partition: Partition) -> dict[str, DataFrame]:
    """The day's profiles by entity; an entity whose table the log lacks is left out."""
    profiles = {}
    for entity, table in PROFILES.items():
        if partition.has(table):
            profiles[entity] = partition.read(spark, table)
    return profiles


def join_profiles(
    impressions: DataFrame, profiles: dict[str, DataFrame], spec: FeatureSpec
) -> DataFrame:
    """Ids, time, labels, hashed categories and the raw numbers of the profiles of each impression.

    An impression whose consumer or item has no profile keeps nulls.
    """
    joined = impressions.selectExpr("*", "pmod(floor(time_ms / 3600000), 24) hour")
    for entity, table in profiles.items():
        joined = joined.join(hashed(table, entity, spec), f"{entity}_id", "left")
    columns = [*IDS, "time_ms"]
    for label in spec.labels:
        columns.append(f"cast({quoted(label)} as tinyint) {quoted(label)}")
    for column in spec.categorical:
        of_value = bucket(quoted(raw_column(column.name)), column.buckets)
        if column.name in joined.columns:  # of a profile, which may be missing
            of_value = f"coalesce({quoted(column.name)}, {bucket('null', column.buckets)})"
        columns.append(f"{of_value} {quoted(column.name)}")
    for name in profile_numbers(spec):
        columns.append(f"cast({quoted(name)} as double) {quoted(name)}")
    return joined.selectExpr(*columns)


def hashed(table: DataFrame, entity: str, spec: FeatureSpec) -> DataFrame:
    """A profile table with its columns of the examples.

    Its categories are hashed here, once for each profile and not for each impression, and the join
    carries numbers instead of texts. Spark broadcasts a small table by itself; a large one would
    not fit into the driver.
    """
    buckets = {column.name: column.buckets for column in spec.categorical}
    columns = [f"{entity}_id"]
    for name in with_prefix(table.columns, "cat_"):
        feature = f"hash_{profile_column(entity, name)}"
        columns.append(f"{bucket(quoted(name), buckets[feature])} {quoted(feature)}")
    for name in with_prefix(table.columns, "num_"):
        columns.append(f"{quoted(name)} {quoted(profile_column(entity, name))}")
    return table.selectExpr(*columns)


def damped(numbers: pa.Array) -> pa.Array:
    """sign(x) · log(1 + |x|) as float32, null where x is null: profiles have heavy tails."""
    return pc.multiply(pc.sign(numbers), pc.log1p(pc.abs(numbers))).cast(pa.float32())
