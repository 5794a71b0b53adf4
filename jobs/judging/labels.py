"""What a day's clean tables say about consumers and producers: engagements, topics, profiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.benchmarks.tasks.base import Case
from embeddings.registry.vectors import Index, encode_ids
from embeddings.sampling import smallest_hashes
from jobs.lake.schema import CONSUMER_TABLE, ENGAGEMENT_TABLE, ITEM_TABLE, with_prefix
from jobs.lake.store import Partition
from models.scratch import PIECE
from models.stored import tables

ENGAGED = ("consumer_id", "producer_id", "item_id")


@dataclass(frozen=True)
class Engagements:
    """One day's engagements of some consumers, one row each.

    consumer_ids: (n,) bytes, sorted. consumers: (r,), row of each engagement's consumer.
    producer_ids, item_ids: (r,) bytes; an unknown item is empty.
    """

    consumer_ids: np.ndarray
    consumers: np.ndarray
    producer_ids: np.ndarray
    item_ids: np.ndarray


def read_engagements(day: Partition, weights: dict[str, float], most: int) -> Engagements:
    """The day's engagements that count, of at most so many consumers.

    weights: as of `counted_rows`. Only the rows of consumers who may be chosen stay in memory.
    """
    rows = pa.table({name: pa.array([], pa.string()) for name in ENGAGED})
    for piece in counted_rows(day, ENGAGED, weights):
        rows = of_some(pa.concat_tables([rows, of_some(piece, most)]), most)
    consumers = encode_ids(rows["consumer_id"].to_numpy())
    ids, numbers = np.unique(consumers, return_inverse=True)
    items = rows["item_id"].fill_null("").to_numpy()
    return Engagements(ids, numbers, encode_ids(rows["producer_id"].to_numpy()), encode_ids(items))


def counted_rows(
    day: Partition, columns: Sequence[str], weights: dict[str, float]
) -> Iterator[pa.Table]:
    """These columns of the day's engagements that count, piece by piece.

    weights: strength by kind, as of the matrix; what has none does not count.
    """
    files = tuple(Path(part.path) for part in day.parts(ENGAGEMENT_TABLE))
    for rows in tables(files, [*columns, "kind", "value"], PIECE):
        yield rows.filter(counts(rows, weights)).select(list(columns))


def counts(rows: pa.Table, weights: dict[str, float]) -> np.ndarray:
    """Which rows have a strength above 0, (r,) bool."""
    kinds = rows["kind"].combine_chunks().dictionary_encode()
    of_kind = np.array([weights.get(kind, 1.0) for kind in kinds.dictionary.to_pylist()])
    return of_kind[kinds.indices.to_numpy()] * rows["value"].to_numpy() > 0


def of_some(rows: pa.Table, most: int) -> pa.Table:
    """The rows of the consumers whose ids have the smallest hashes."""
    ids = pc.unique(rows["consumer_id"])
    if len(ids) <= most:
        return rows
    chosen = smallest_hashes(encode_ids(ids.to_numpy(zero_copy_only=False)), most)
    return rows.filter(pc.is_in(rows["consumer_id"], ids.take(pa.array(chosen))))


def with_engagements(case: Case, day: Engagements) -> Case:
    """The case with the engagements of a later day, whose consumers are those of the case."""
    columns = Index(np.sort(case.producer_ids)).find(day.producer_ids)
    columns = np.where(columns >= 0, np.argsort(case.producer_ids)[columns], -1)
    known = columns >= 0
    shape = (len(case.consumer_ids), len(case.producer_ids))
    ones = np.ones(int(known.sum()))
    engaged = sp.csr_matrix((ones, (day.consumers[known], columns[known])), shape=shape)
    return replace(case, engaged=engaged, elsewhere=others(day, ~known, len(case.consumer_ids)))


def others(day: Engagements, unknown: np.ndarray, n: int) -> np.ndarray:
    """How many distinct producers of these engagements each consumer has, (n,)."""
    if not unknown.any():
        return np.zeros(n, np.int64)
    _, producer = np.unique(day.producer_ids[unknown], return_inverse=True)
    pairs = np.unique(np.column_stack([day.consumers[unknown], producer]), axis=0)
    return np.bincount(pairs[:, 0], minlength=n)


@dataclass(frozen=True)
class Topics:
    """The topic of each item that has one, and its producer.

    names: the topics, sorted. item_ids, producer_ids: (i,) bytes; topic: (i,), number in `names`.
    """

    names: tuple[str, ...]
    item_ids: np.ndarray
    producer_ids: np.ndarray
    topic: np.ndarray


def read_topics(day: Partition, column: str) -> Topics | None:
    """The topics of the day's items; None where the log has none.

    column: of the table of items, as in `cat_tag`.
    """
    files = [part.path for part in day.parts(ITEM_TABLE)]
    if not files or column not in pq.read_schema(files[0]).names:
        return None
    tables = [pq.read_table(file, columns=["item_id", "producer_id", column]) for file in files]
    rows = pa.concat_tables(tables)
    rows = rows.filter(pc.not_equal(rows[column], ""))  # a null is not unequal either
    if not rows.num_rows:
        return None
    names, topic = np.unique(rows[column].to_numpy().astype(np.str_), return_inverse=True)
    items = encode_ids(rows["item_id"].to_numpy())
    producers = encode_ids(rows["producer_id"].to_numpy())
    return Topics(tuple(names.tolist()), items, producers, topic)


def with_producer_topics(case: Case, topics: Topics | None) -> Case:
    """The case with the number of each producer's items by topic."""
    if topics is None:
        return case
    rows = Index(np.sort(case.producer_ids)).find(topics.producer_ids)
    known = rows >= 0
    places = np.argsort(case.producer_ids)[rows[known]]
    shape = (len(case.producer_ids), len(topics.names))
    ones = np.ones(len(places))
    table = sp.csr_matrix((ones, (places, topics.topic[known])), shape=shape)
    return replace(case, topics=topics.names, producer_topics=table)


def with_consumer_topics(case: Case, day: Engagements, topics: Topics | None) -> Case:
    """The case with the number of each consumer's engagements of a later day by topic."""
    if topics is None or not len(day.item_ids):
        return case
    order = np.argsort(topics.item_ids, kind="stable")
    items = Index(topics.item_ids[order]).find(day.item_ids)
    known = items >= 0
    topic = topics.topic[order[items[known]]]
    shape = (len(case.consumer_ids), len(topics.names))
    ones = np.ones(len(topic))
    table = sp.csr_matrix((ones, (day.consumers[known], topic)), shape=shape)
    return replace(case, topics=topics.names, consumer_topics=table)


def with_profiles(case: Case, day: Partition) -> Case:
    """The case with the day's profiles of its consumers; unchanged where the log has none."""
    files = [part.path for part in day.parts(CONSUMER_TABLE)]
    if not files:
        return case
    names = pq.read_schema(files[0]).names
    columns = [*with_prefix(names, "cat_"), *with_prefix(names, "num_")]
    profiles: dict[str, np.ndarray] = {}
    for column in columns:
        kind = np.float64 if column.startswith("num_") else np.str_
        profiles[column] = np.full(len(case.consumer_ids), np.nan if kind is np.float64 else "")
    tables = [pq.read_table(file, columns=["consumer_id", *columns]) for file in files]
    rows = pa.concat_tables(tables)
    if not rows.num_rows:
        return case
    ids = encode_ids(rows["consumer_id"].to_numpy())
    order = np.argsort(ids, kind="stable")
    at = Index(ids[order]).find(case.consumer_ids)
    known = at >= 0
    for column in columns:
        values = rows[column].to_numpy()[order[at[known]]]
        if column.startswith("num_"):
            profiles[column][known] = values.astype(np.float64)
        else:
            texts = np.array(["" if value is None else str(value) for value in values], np.str_)
            profiles[column] = np.full(len(known), "", texts.dtype)
            profiles[column][known] = texts
    return replace(case, profiles=profiles)
