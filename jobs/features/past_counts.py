"""What had happened to each consumer, producer and item before a day: counted in Spark, looked up by the workers.

counts/part-*.parquet    entity, id, shown, engaged and label_* (how often each outcome was positive)
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

from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE
from jobs.lake.store import Partition

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ENTITIES = ("consumer", "producer", "item")
COUNTS = "counts"


def count_past(
    spark: SparkSession, past: list[Partition], labels: tuple[str, ...]
) -> DataFrame | None:
    """One row an (entity, id) that these validated days speak of, whole numbers only; None where they are empty."""
    from pyspark.sql import functions as F

    columns = ["shown", "engaged", *labels]
    ids = [f"{entity}_id" for entity in ENTITIES]
    events = []
    if shown := [str(p.path / IMPRESSION_TABLE) for p in past if p.has(IMPRESSION_TABLE)]:
        events.append(spark.read.parquet(*shown).selectExpr(*ids, "1 shown", "0 engaged", *labels))
    if engaged := [str(p.path / ENGAGEMENT_TABLE) for p in past if p.has(ENGAGEMENT_TABLE)]:
        nothing = [f"0 {label}" for label in labels]
        events.append(
            spark.read.parquet(*engaged).selectExpr(*ids, "0 shown", "1 engaged", *nothing)
        )
    if not events:
        return None
    both = events[0] if len(events) == 1 else events[0].unionByName(events[1])
    who = ", ".join(f"struct('{entity}' entity, {entity}_id id)" for entity in ENTITIES)
    rows = both.selectExpr(f"explode(array({who})) who", *columns).where("who.id is not null")
    return rows.groupBy("who.entity", "who.id").agg(*(F.sum(name).alias(name) for name in columns))


@dataclass(frozen=True)
class History:
    """The counts of `count_past`, ready to be asked."""

    counts: pa.Table
    labels: tuple[str, ...]

    @classmethod
    def read(cls, path: Path | None, labels: tuple[str, ...]) -> History:
        """Open counts; without a path nothing had happened to anybody."""
        names = ["entity", "id", "shown", "engaged", *labels]
        if path is None:
            empty = {
                name: pa.array([], pa.string() if name in ("entity", "id") else pa.int64())
                for name in names
            }
            return cls(pa.table(empty), labels)
        return cls(pq.read_table(path, columns=names), labels)

    @staticmethod
    def features(labels: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the columns of `of`."""
        return ("shown", "engaged", *(f"lift_{label.removeprefix('label_')}" for label in labels))

    def of(self, entity: str, ids: pa.Array) -> np.ndarray:
        """(n, features) float32: log(1 + shown), log(1 + engaged), and the lift of each label; zeros for the unseen.

        lift = log((positives + 1) / (expected + 1)), expected = shown · share of that label among all impressions: how
        much more often than usual, slow to believe a single event.
        """
        known, counts = self._entities[entity]
        at = pc.fill_null(pc.index_in(ids, value_set=known), len(known)).to_numpy(
            zero_copy_only=False
        )
        shown, engaged, positives = (
            counts[at, 0],
            counts[at, 1],
            counts[at, 2:],
        )  # (n,), (n,), (n, labels)
        expected = shown[:, None] * self._rates
        lifts = np.log((positives + 1) / (expected + 1))
        return np.column_stack([np.log1p(shown), np.log1p(engaged), lifts]).astype(np.float32)

    @cached_property
    def _entities(self) -> dict[str, tuple[pa.Array, np.ndarray]]:
        """Per entity its ids, and their counts (n + 1, 2 + labels) with a last row of zeros for everybody else."""
        found = {}
        for entity in ENTITIES:
            rows = self.counts.filter(pc.equal(self.counts["entity"], entity))
            counts = np.column_stack(
                [rows[name].to_numpy() for name in ("shown", "engaged", *self.labels)]
            )
            found[entity] = (
                rows["id"].combine_chunks(),
                np.vstack([counts, np.zeros_like(counts, shape=(1, counts.shape[1]))]),
            )
        return found

    @cached_property
    def _rates(self) -> np.ndarray:
        """Share of each label among all impressions, (labels,)."""
        sums = self._entities["consumer"][1].sum(axis=0)  # every impression has one consumer
        return sums[2:] / max(sums[0], 1)
