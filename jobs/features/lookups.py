"""What Spark workers look up for each impression: row numbers of vectors, and counts of the past.

Looking up instead of joining took half the CPU: see docs/decisions/0008-ranker.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from embeddings.registry.client import Version, open_version
from jobs.features.columns import past_columns, profile_numbers
from jobs.features.past_counts import ENTITIES, PastCounts
from jobs.features.profiles import damped
from jobs.lake.worker_parts import BatchTask
from models.features import FeatureSpec

EMBEDDED = ("consumer", "producer")  # the entities that have vectors
TOGETHER = 1 << 17  # rows that are looked up at once: the index of the counts is built each time


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


def lookup_task(spec: FeatureSpec, past: Past) -> BatchTask:
    """The function that a worker runs: rows of `join_profiles` in, examples out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Read by every task, instead of being sent with it.
        counts = PastCounts.read(past.counts, spec.labels)
        numbers = profile_numbers(spec)
        for batch in in_larger(batches, TOGETHER):
            columns: dict[str, pa.Array | np.ndarray] = {}
            for name in batch.schema.names:
                # The raw numbers of profiles return as damped features under the same names.
                if name not in numbers:
                    columns[name] = batch[name]
            for name in numbers:
                columns[name] = damped(batch[name])
            for entity in ENTITIES:
                features = counts.of(entity, batch[f"{entity}_id"])
                for position, name in enumerate(past_columns(entity, spec.labels)):
                    columns[name] = features[:, position]
            for entity in EMBEDDED:
                columns[f"{entity}_row"] = past.rows(entity, batch[f"{entity}_id"])
            arrays = [pa.array(column) for column in columns.values()]
            yield pa.RecordBatch.from_arrays(arrays, list(columns))

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
