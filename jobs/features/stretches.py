"""A long day in several stretches of time, which Spark computes and writes side by side.

Where a day is cut depends on its rows alone. Spark's own partitioning by range cuts where samples
say, and would give other files each time. A stretch has about STRETCH rows and whole minutes; with
a busy minute it has more, and the one after it may have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

STRETCH = 250_000  # rows, about
MINUTE = "floor(time_ms / 60000)"


def cut_by_time(rows: DataFrame, times: DataFrame, count: int) -> tuple[DataFrame, int]:
    """The rows with one partition per stretch, in the order of time, and the number of partitions.

    rows: with a column time_ms. It must be the last thing before they are written: a join spreads
    them anew where the other table is large. times: the same `count` rows, or what they are made
    of.
    """
    from pyspark.sql import functions as F

    stretches = max(1, -(-count // STRETCH))
    if stretches == 1:
        return rows.coalesce(1), 1
    counted = times.selectExpr(f"{MINUTE} minute").groupBy("minute").count().toArrow()
    counted = counted.sort_by("minute")
    minutes = counted["minute"].to_numpy()
    numbers = stretch_of_minutes(counted["count"].to_numpy(), stretches)
    # A number for each minute, also for one without rows: the row's minute is its place.
    first = int(minutes[0])
    table = np.zeros(int(minutes[-1]) - first + 1, dtype=np.int32)
    table[minutes - first] = numbers
    place = F.expr(f"cast({MINUTE} - {first} + 1 as int)")
    number = F.element_at(F.lit(table.tolist()), place)
    return rows.repartitionById(stretches, number), stretches


def stretch_of_minutes(counts: np.ndarray, stretches: int) -> np.ndarray:
    """The stretch of each minute, ascending: that of the middle one of its rows.

    counts: (m,) rows of each minute, in the order of time. Returns (m,) int64 below `stretches`.
    """
    middles = np.cumsum(counts) - counts / 2
    return (middles * stretches / counts.sum()).astype(np.int64)
