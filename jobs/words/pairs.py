"""Pairs of what occurs together, with weights, formed and summed in Spark.

    pairs_of_columns    two columns of a table: a consumer and a producer, an item and its tag
    pairs_in_groups     one column within a group, in any order: tags of an item
    pairs_in_windows    one column within a group, in its order: words of a conversation

All return the columns first, second and weight, and those of `by`, one row per distinct pair.
Weights are summed in whole millionths, so that the order of the rows changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embeddings.words.pairs import nearness

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

MILLION = 1_000_000


def pairs_of_columns(
    rows: DataFrame, first: str, second: str, weight: str = "", by: Sequence[str] = ()
) -> DataFrame:
    """The pairs of two columns. weight: a column of numbers; "": each row counts 1."""
    from pyspark.sql import functions as F

    weights = F.col(weight) if weight else F.lit(1.0)
    named = (F.col(first).alias("first"), F.col(second).alias("second"), weights.alias("weight"))
    return summed(rows.select(*by, *named), by)


def pairs_in_groups(
    rows: DataFrame, group: str, entity: str, weight: str = "", by: Sequence[str] = ()
) -> DataFrame:
    """All pairs of two entities of a group, in both orders; a pair counts the product of weights.

    A group of n entities has n (n − 1) pairs: for groups that are small.
    """
    from pyspark.sql import functions as F

    weights = F.col(weight) if weight else F.lit(1.0)
    named = (F.col(group).alias("group"), F.col(entity).alias("entity"), weights.alias("w"))
    keys = [*by, "group", "entity"]
    members = rows.select(*by, *named).groupBy(*keys).agg(in_millionths(F.col("w")).alias("w"))
    others = members.select(*by, "group", F.col("entity").alias("second"), F.col("w").alias("v"))
    joined = members.withColumnRenamed("entity", "first").join(others, [*by, "group"])
    different = joined.where(F.col("first") != F.col("second"))
    return summed(
        different.select(*by, "first", "second", (F.col("w") * F.col("v")).alias("weight")), by
    )


def pairs_in_windows(
    rows: DataFrame, group: str, entity: str, order: str, window: int, by: Sequence[str] = ()
) -> DataFrame:
    """The pairs of entities at most `window` places apart in a group, in both orders.

    A pair that is d places apart counts 1 − (d − 1)/window, see `embeddings.words.pairs`. order: a
    column that orders a group. The work grows with the rows times the window.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    ordered = Window.partitionBy(*by, group).orderBy(order)
    later = []
    for distance in range(1, window + 1):
        other = F.lead(entity, distance).over(ordered).alias("second")
        weight = F.lit(nearness(distance, window)).alias("weight")
        later.append(F.struct(other, weight))
    near = rows.select(*by, F.col(entity).alias("first"), F.array(*later).alias("near"))
    pairs = near.select(*by, "first", F.inline("near")).where(F.col("second").isNotNull())
    swapped = pairs.select(
        *by, F.col("second").alias("first"), F.col("first").alias("second"), "weight"
    )
    return summed(pairs.unionByName(swapped), by)


def summed(pairs: DataFrame, by: Sequence[str]) -> DataFrame:
    """One row per pair, with the sum of its weights."""
    from pyspark.sql import functions as F

    known = pairs.where(F.col("first").isNotNull() & F.col("second").isNotNull())
    keys = [*by, "first", "second"]
    return known.groupBy(*keys).agg(in_millionths(F.col("weight")).alias("weight"))


def in_millionths(weights: Column) -> Column:
    """The sum of weights, exact whatever the order of the rows."""
    from pyspark.sql import functions as F

    return F.sum(F.round(weights * MILLION).cast("long")) / F.lit(float(MILLION))
