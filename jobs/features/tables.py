"""What the loop knows of consumers, producers and items besides vectors, as tables of features.

    producers                            topic (the most frequent one of its items), items
    consumer_counts, producer_counts,    shown, engaged and label_*: how often, in the days before
    item_counts                          that the ranker's examples of the day look back on

Any reader finds them in the registry by name and day: `producers.topic`, `item_counts.shown`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.registry.client import Registry
from embeddings.registry.vectors import encode_ids
from jobs.features.past_counts import ENTITIES
from jobs.judging.labels import Topics
from jobs.lake.schema import PRODUCER_FEATURES
from jobs.names import column_name

LONGEST = 200  # bytes of a text: the registry's limit


def publish_producers(
    registry: Registry,
    day: date,
    ids: np.ndarray,
    topics: Topics | None,
    lineage: dict[str, Any],
) -> None:
    """The table of producers; none where the log has no topics. ids: (m,) bytes, sorted."""
    if topics is None:
        return
    counts = np.zeros((len(ids), len(topics.names)), np.int64)
    rows = np.searchsorted(ids, topics.producer_ids)
    rows = np.minimum(rows, len(ids) - 1)
    known = ids[rows] == topics.producer_ids
    np.add.at(counts, (rows[known], topics.topic[known]), 1)
    items = counts.sum(axis=1)
    names = np.array([shortened(name) for name in topics.names])
    columns = {"topic": np.where(items > 0, names[counts.argmax(axis=1)], b""), "items": items}
    registry.publish_features(PRODUCER_FEATURES, day, "producer", ids, columns, lineage)


def shortened(text: str) -> bytes:
    """Its UTF-8, cut between two characters where it is too long to be published."""
    return text.encode()[:LONGEST].decode(errors="ignore").encode()


def publish_counts(registry: Registry, day: date, counts: Path, lineage: dict[str, Any]) -> None:
    """A table of every entity. counts: as `past_counts.count_past` finds them, as Parquet."""
    table = pq.read_table(counts)
    numbers = [name for name in table.column_names if name not in ("entity", "id")]
    for entity in ENTITIES:
        rows = table.filter(pc.equal(table["entity"], entity))
        if rows.num_rows:
            ids = encode_ids(rows["id"].to_numpy())
            order = np.argsort(ids)
            columns = {column_name(name): rows[name].to_numpy()[order] for name in numbers}
            registry.publish_features(f"{entity}_counts", day, entity, ids[order], columns, lineage)
