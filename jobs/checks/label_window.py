"""Late labels: what became 1 later than `validation.label_window_hours` after its impression.

It counts as 0 for all that reads the clean day: the ranker, the counts of the past and the matrix.
Every impression then has the same time to be engaged with, whenever the log is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.errors import SettingsError
from jobs.lake.schema import quoted, with_prefix
from jobs.sources.days import HOUR_MS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

LABEL, AT = "label_", "at_"


def timed_labels(columns: list[str]) -> list[str]:
    """The labels, without their prefix, whose times are known.

    Raises SettingsError without any: a window is set, and nothing could be late.
    """
    timed = [name.removeprefix(AT) for name in with_prefix(columns, AT)]
    if not timed:
        raise SettingsError(
            "validation.label_window_hours is set, but the impressions of the source have no times "
            "of labels. Name the log's columns that have them in source.label_times, or leave the "
            "window out."
        )
    return timed


def is_late(label: str, hours: float) -> Column:
    """Did this label become 1 after the window?"""
    from pyspark.sql import functions as F

    # Of the impression's own time, which is within its day: the label's may be any number.
    end_ms = F.col("time_ms") + int(hours * HOUR_MS)
    late = (F.col(quoted(LABEL + label)) == 1) & (F.col(quoted(AT + label)) > end_ms)
    return F.coalesce(late, F.lit(False))


def within_window(impressions: DataFrame, hours: float) -> DataFrame:
    """The impressions with 0 for every label that is late."""
    from pyspark.sql import functions as F

    changed = {}
    for label in timed_labels(impressions.columns):
        column = F.col(quoted(LABEL + label))
        changed[LABEL + label] = F.when(is_late(label, hours), F.lit(0)).otherwise(column)
    return impressions.withColumns(changed)


def count_late(impressions: DataFrame, hours: float) -> dict[str, int]:
    """How many labels are late: label without its prefix -> impressions."""
    from pyspark.sql import functions as F

    labels = timed_labels(impressions.columns)
    counts = [F.count_if(is_late(label, hours)).alias(label) for label in labels]
    (row,) = impressions.select(*counts).collect()
    return dict(zip(labels, row, strict=True))
