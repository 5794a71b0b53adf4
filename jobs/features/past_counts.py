"""How often each consumer, producer and item occurred before a day, as features of the ranker.

Spark counts the past once; workers look the counts up.

    counts/part-*.parquet    entity, id, shown, engaged, label_* (how often it was 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE, quoted
from jobs.lake.store import Partition, read_parquet

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ENTITIES = ("consumer", "producer", "item")
IDS = tuple(f"{entity}_id" for entity in ENTITIES)
COUNTS = "counts"


def count_past(
    spark: SparkSession, past: list[Partition], labels: tuple[str, ...]
) -> DataFrame | None:
    """One row of whole numbers per (entity, id) in these validated days; None if they are empty."""
    from pyspark.sql import functions as F

    events = events_of(spark, past, labels)
    if events is None:
        return None
    columns = ["shown", "engaged", *labels]
    kept = [quoted(column) for column in columns]
    # Every event counts for its consumer, its producer and its item: one pass instead of three.
    structs = [f"struct('{entity}' entity, {entity}_id id)" for entity in ENTITIES]
    occurrences = events.selectExpr(f"explode(array({', '.join(structs)})) occurrence", *kept)
    # A source without items has null items in every row.
    known = occurrences.where("occurrence.id is not null")
    sums = []
    for column in columns:
        sums.append(F.sum(quoted(column)).alias(column))
    return known.groupBy("occurrence.entity", "occurrence.id").agg(*sums)


def events_of(
    spark: SparkSession, past: list[Partition], labels: tuple[str, ...]
) -> DataFrame | None:
    """One row per impression and per engagement: ids, shown (0/1), engaged (0/1), labels."""
    impressions = paths_of(past, IMPRESSION_TABLE)
    engagements = paths_of(past, ENGAGEMENT_TABLE)
    shown = None
    engaged = None
    if impressions:
        rows = read_parquet(spark, impressions)
        shown = rows.selectExpr(*IDS, "1 shown", "0 engaged", *map(quoted, labels))
    if engagements:
        # A label belongs to the impression, and is counted there.
        no_labels = [f"0 {quoted(label)}" for label in labels]
        rows = read_parquet(spark, engagements)
        engaged = rows.selectExpr(*IDS, "0 shown", "1 engaged", *no_labels)
    if shown is None or engaged is None:
        return engaged if shown is None else shown
    return shown.unionByName(engaged)


def paths_of(partitions: list[Partition], table: str) -> list[Path]:
    return [partition.path / table for partition in partitions if partition.has(table)]


@dataclass(frozen=True)
class PastCounts:
    """The counts of `count_past`, ready for look-ups."""

    counts: pa.Table
    labels: tuple[str, ...]

    @classmethod
    def read(cls, path: Path | None, labels: tuple[str, ...]) -> PastCounts:
        """Open counts; without a path there is no past, and all counts are zero."""
        names = ("entity", "id")
        numbers = ("shown", "engaged", *labels)
        if path is not None:
            return cls(pq.read_table(path, columns=[*names, *numbers]), labels)
        schema = dict.fromkeys(names, pa.string()) | dict.fromkeys(numbers, pa.int64())
        return cls(pa.schema(schema).empty_table(), labels)

    @staticmethod
    def features(labels: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the columns that `of` returns."""
        names = ["shown", "engaged"]
        for label in labels:
            names.append(f"lift_{label.removeprefix('label_')}")
        return tuple(names)

    def of(self, entity: str, ids: pa.Array) -> np.ndarray:
        """(n, features) float32: log(1 + shown), log(1 + engaged), and the lift of each label.

        lift = log((positives + 1) / (expected + 1)), expected = shown · the label's share of all
        impressions: how much more often than usual the outcome was positive, where the +1 keeps a
        single event from counting for much. An unseen or null id has zeros.
        """
        known, counts = self._entities[entity]
        unseen = len(known)  # the row of zeros
        places = pc.fill_null(pc.index_in(ids, value_set=known), unseen)
        rows = counts[places.to_numpy(zero_copy_only=False)]  # (n, 2 + labels)
        shown = rows[:, 0]
        engaged = rows[:, 1]
        positives = rows[:, 2:]
        expected = shown[:, None] * self._rates
        lifts = np.log((positives + 1) / (expected + 1))
        return np.column_stack([np.log1p(shown), np.log1p(engaged), lifts]).astype(np.float32)

    @cached_property
    def _entities(self) -> dict[str, tuple[pa.Array, np.ndarray]]:
        """Entity -> its ids (m,) and their counts (m + 1, 2 + labels); the last row is zeros."""
        entities = {}
        numbers = ["shown", "engaged", *self.labels]
        for entity in ENTITIES:
            rows = self.counts.filter(pc.equal(self.counts["entity"], entity))
            columns = [rows[name].to_numpy() for name in numbers]
            counts = np.column_stack(columns)
            # An unseen id points at this row, so that it needs no special case.
            zeros = np.zeros_like(counts, shape=(1, counts.shape[1]))
            entities[entity] = rows["id"].combine_chunks(), np.vstack([counts, zeros])
        return entities

    @cached_property
    def _rates(self) -> np.ndarray:
        """Share of each label among all impressions, (labels,)."""
        # Every impression has exactly one consumer, so these rows count each impression once.
        _, counts = self._entities["consumer"]
        shown, _, *positives = counts.sum(axis=0)
        return np.array(positives) / max(shown, 1)
