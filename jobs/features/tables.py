"""What the loop knows of consumers, producers and items besides vectors, as tables of features.

    producers                            topic (the most frequent one of its items), items
    profile, item_profile                the day's profiles of consumers and of items: a column for
                                         every cat_* and num_*, named without these prefixes
    consumer_counts, producer_counts,    shown, engaged and label_*: how often, in the days before
    item_counts                          that the ranker's examples of the day look back on

Any reader finds them in the registry by name and day: `producers.topic`, `item_counts.shown`.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.registry.client import Registry
from embeddings.registry.vectors import encode_ids
from jobs.features.past_counts import ENTITIES
from jobs.features.profiles import PROFILES
from jobs.judging.labels import Topics
from jobs.lake.schema import PRODUCER_FEATURES, PROFILE_FEATURES, with_prefix
from jobs.lake.store import Partition
from jobs.names import PUBLISHED, column_name

log = logging.getLogger(__name__)
MOST_VALUES = 50_000_000  # of a table of profiles, which is in memory when it is published
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


def publish_profiles(
    registry: Registry, day: date, clean: Partition, lineage: dict[str, Any]
) -> None:
    """A table of each entity that has profiles. clean: the validated day."""
    for entity, name in PROFILE_FEATURES.items():
        files = [part.path for part in clean.parts(PROFILES[entity])]
        columns = feature_columns(pq.read_schema(files[0]).names) if files else {}
        n_rows = sum(pq.read_metadata(file).num_rows for file in files)
        if not columns or not n_rows:
            continue
        if n_rows * len(columns) > MOST_VALUES:
            log.warning(
                "%s is not published for %s: it has %d values, and at most %d fit into memory.",
                name,
                day,
                n_rows * len(columns),
                MOST_VALUES,
            )
            continue
        ids, values = profile_values(files, f"{entity}_id", columns)
        registry.publish_features(name, day, entity, ids, values, lineage)


def feature_columns(names: list[str]) -> dict[str, str]:
    """The columns of a table of profiles -> their names as features, without the prefix.

    A name that two columns would share, or that the registry would refuse, keeps it.
    """
    columns = [*with_prefix(names, "cat_"), *with_prefix(names, "num_")]
    short = {column: column[len("cat_") :] for column in columns}
    taken = Counter(short.values())
    named = {}
    for column, name in short.items():
        is_free = taken[name] == 1 and PUBLISHED.fullmatch(name)
        named[column] = name if is_free else column_name(column)
    return named


def profile_values(
    files: list[str], id_column: str, columns: dict[str, str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids, (n,) 'S', sorted, and the values of each feature in this order.

    A missing text is empty, a missing number NaN.
    """
    all_ids = encode_ids(column_of(files, id_column).to_numpy(zero_copy_only=False))
    ids, rows = np.unique(all_ids, return_index=True)
    features = {}
    for column, name in columns.items():
        values = column_of(files, column)
        if pa.types.is_floating(values.type):
            numbers = values.to_numpy(zero_copy_only=False)[rows]
            features[name] = np.where(np.isfinite(numbers), numbers, np.nan)
        else:
            coded = values.fill_null("").dictionary_encode()
            texts = np.array([shortened(text) for text in coded.dictionary.to_pylist()], "S")
            features[name] = texts[coded.indices.to_numpy()[rows]]
    return ids, features


def column_of(files: list[str], column: str) -> pa.Array:
    """One column of all files. Read alone, it needs little memory beside its values."""
    tables = [pq.read_table(file, columns=[column]) for file in files]
    return pa.concat_tables(tables)[column].combine_chunks()


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
