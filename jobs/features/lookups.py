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
from models.features import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

EMBEDDED = ("consumer", "producer")  # the entities that have vectors

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
    numbers = profile_numbers(spec)
    columns = []
    for field in joined.schema.fields:
        # The raw numbers of profiles return as damped features under the same names.
        if field.name not in numbers:
            # Without the collation that a Connect client adds: it would be in the Parquet footer.
            kind = field.dataType.simpleString().removesuffix(" collate UTF8_BINARY")
            columns.append(f"`{field.name}` {kind}")
    for name in spec.numeric:
        columns.append(f"`{name}` float")
    for entity in EMBEDDED:
        columns.append(f"{entity}_row long")
    return joined.mapInArrow(lookup_task(spec, past), ", ".join(columns))


def lookup_task(spec: FeatureSpec, past: Past) -> BatchTask:
    """The function that a worker runs: joined impressions in, examples out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Read by every task, instead of being sent with it.
        counts = PastCounts.read(past.counts, spec.labels)
        numbers = profile_numbers(spec)
        for batch in batches:
            # In the order of the declared schema: what was joined, the numbers, the rows.
            columns: dict[str, pa.Array | np.ndarray] = {}
            for name in batch.schema.names:
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
            yield pa.RecordBatch.from_pydict(columns)

    return run
