"""What Spark workers look up for each impression: row numbers of vectors, and counts of the past.

Looking up instead of joining took half the CPU: see docs/decisions/0008-ranker.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embeddings.registry.client import Version, open_version
from jobs.features.columns import past_columns, profile_numbers
from jobs.features.past_counts import ENTITIES, PastCounts
from jobs.features.profiles import damped
from jobs.lake.schema import quoted
from models.features import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

EMBEDDED = ("consumer", "producer")  # the entities that have vectors
TOGETHER = 1 << 17  # rows that are looked up at once: the index of the counts is built each time

BatchTask = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Past:
    """What was known before the day, as it is sent to the workers."""

    version: Version | None  # of the embedding; None where none was published before the day
    counts: Path | None  # folder of the counts; None where the past is empty

    def rows(self, entity: str, ids: pa.Array) -> np.ndarray:
        """The row of each id in the version, -1 where it has none. Returns (n,) int64."""
        if self.version is None:
            return np.full(len(ids), -1)
        opened = open_version(self.version)
        return opened.entities[entity].rows(ids.to_numpy(zero_copy_only=False))


def add_lookups(joined: DataFrame, spec: FeatureSpec, past: Past) -> DataFrame:
    """The result of `join_profiles` with all numeric features and the rows of the vectors."""
    kinds = {}
    for field in joined.schema.fields:
        # The raw numbers of profiles return as damped features under the same names.
        if field.name not in profile_numbers(spec):
            kinds[field.name] = field.dataType.simpleString()
    kinds |= dict.fromkeys(spec.numeric, "float")
    kinds |= {f"{entity}_row": "long" for entity in EMBEDDED}
    declared = []
    returned = []
    for number, (name, kind) in enumerate(kinds.items()):
        # A text that a task declares has a collation under Connect and none in a classic session,
        # and the Parquet footer says so: the same rows would have other bytes. Bytes have none.
        text = kind.startswith("string")
        declared.append(f"_{number} {'binary' if text else kind}")
        returned.append(f"cast(_{number} as string) {quoted(name)}" if text else f"_{number}")
    # By number, because PySpark takes the dot in a column's name for a field of the column.
    numbered = joined.toDF(*(f"_{number}" for number in range(len(joined.columns))))
    task = lookup_task(spec, past, joined.columns)
    found = numbered.mapInArrow(task, ", ".join(declared)).selectExpr(*returned)
    return found.toDF(*kinds)


def lookup_task(spec: FeatureSpec, past: Past, names: list[str]) -> BatchTask:
    """The function that a worker runs: joined impressions in, examples out, columns by number.

    names: of the columns of what was joined.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Read by every task, instead of being sent with it.
        counts = PastCounts.read(past.counts, spec.labels)
        numbers = profile_numbers(spec)
        for numbered in in_larger(batches, TOGETHER):
            batch = numbered.rename_columns(names)
            # In the order of the declared schema: what was joined, the numbers, the rows.
            columns: dict[str, pa.Array | np.ndarray] = {}
            for name in names:
                if name not in numbers:
                    column = batch[name]
                    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
                    columns[name] = column.cast(pa.binary()) if text else column
            for name in numbers:
                columns[name] = damped(batch[name])
            for entity in ENTITIES:
                features = counts.of(entity, batch[f"{entity}_id"])
                for position, name in enumerate(past_columns(entity, spec.labels)):
                    columns[name] = features[:, position]
            for entity in EMBEDDED:
                columns[f"{entity}_row"] = past.rows(entity, batch[f"{entity}_id"])
            arrays = [pa.array(column) for column in columns.values()]
            yield pa.RecordBatch.from_arrays(arrays, [f"_{n}" for n in range(len(arrays))])

    return run


def in_larger(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at least so many, but for the last one."""
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        kept.append(batch)
        if sum(map(len, kept)) >= rows:
            yield pa.concat_batches(kept)
            kept = []
    if kept:
        yield pa.concat_batches(kept)
