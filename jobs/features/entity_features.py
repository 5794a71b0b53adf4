"""What a day's tables say of consumers and producers, as the features that an embedder reads.

Of consumers: the categories, numbers and bags of their profiles. Of producers: what share of their
items has each value of the items' categories. Files are read one by one, and a value gets a column
where enough rows have it, whichever rows are asked for: all workers have the same columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.features import Bags, Features, Value, Vocabulary, frequent, moments
from embeddings.registry.vectors import Index, encode_ids
from jobs.lake.schema import CONSUMER_TABLE, ITEM_TABLE, with_prefix
from jobs.lake.store import Partition

PROFILE = ("cat_", "num_", "bag_")  # the roles of the columns that a profile consists of
LEAST = 20  # how often profiles, or items, must have a value


def consumer_features(day: Partition, ids: np.ndarray) -> Features | None:
    """The profiles of these consumers, zeros for one without; None where the log has none.

    ids: (n,) bytes, in any order.
    """
    files = files_of(day, CONSUMER_TABLE)
    columns = columns_of(files, PROFILE)
    if not columns:
        return None
    vocabulary = learned(files, columns)
    return Features(vocabulary, profile_rows(day, vocabulary, ids))


def profile_rows(day: Partition, vocabulary: Vocabulary, ids: np.ndarray) -> sp.csr_matrix:
    """The profiles of these consumers as rows of a vocabulary, (n, width) float32.

    ids: (n,) bytes, in any order.
    """
    rows = sp.csr_matrix((len(ids), vocabulary.width), dtype=np.float32)
    for places, values in profiles(day, ids):
        rows += in_rows(vocabulary.rows(values, len(places)), places, len(ids))
    return rows


def profiles(
    day: Partition, ids: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray | Bags]]]:
    """Of each file of profiles: the places among the ids of those it has, and their columns.

    ids: (n,) bytes, in any order.
    """
    if not len(ids):
        return  # of a worker without consumers
    files = files_of(day, CONSUMER_TABLE)
    columns = columns_of(files, PROFILE)
    order = np.argsort(ids, kind="stable")
    index = Index(ids[order])
    for table in tables(files, ["consumer_id", *columns]):
        found = index.find(encode_ids(table["consumer_id"].to_numpy()))
        known = found >= 0
        asked = table.filter(pa.array(known))
        values = {feature(name): values_of(asked[name]) for name in columns}
        yield order[found[known]], values


def profiles_as_asked(
    day: Partition, vocabulary: Vocabulary, ids: np.ndarray
) -> list[dict[str, Value]]:
    """The profiles of these consumers as a request has them, without what has no column.

    ids: (n,) bytes, in any order.
    """
    asked: list[dict[str, Value]] = [{} for _ in ids]
    for places, values in profiles(day, ids):
        for name, column in values.items():
            given = column.counted() if isinstance(column, Bags) else column.tolist()
            for place, value in zip(places.tolist(), given, strict=True):
                if isinstance(value, dict):
                    value = {text: n for text, n in value.items() if vocabulary.has(name, text)}
                    if value:
                        asked[place][name] = value
                elif vocabulary.has(name, value):
                    asked[place][name] = value
    return asked


def producer_features(day: Partition, ids: np.ndarray) -> Features | None:
    """The share of each producer's items that has each value; None where the log has no items.

    ids: (m,) bytes, in any order. An item without a value counts among the items.
    """
    files = files_of(day, ITEM_TABLE)
    columns = columns_of(files, ("cat_",))
    if not columns:
        return None
    vocabulary = learned(files, columns)
    order = np.argsort(ids, kind="stable")
    index = Index(ids[order])
    totals = sp.csr_matrix((len(ids), vocabulary.width), dtype=np.float64)
    items = np.zeros(len(ids))
    for table in tables(files, ["producer_id", *columns]):
        found = index.find(encode_ids(table["producer_id"].to_numpy()))
        known = found >= 0
        places = order[found[known]]
        asked = table.filter(pa.array(known))
        values = {feature(name): values_of(asked[name]) for name in columns}
        rows = vocabulary.rows(values, len(places))
        totals += in_rows(rows, places, len(ids))
        items += np.bincount(places, minlength=len(ids))
    shares = sp.diags(1 / np.maximum(items, 1)) @ totals
    return Features(vocabulary, shares.tocsr().astype(np.float32))


def learned(files: list[Path], columns: list[str]) -> Vocabulary:
    """The values and moments of a table's columns."""
    categories, numbers = {}, {}
    for column in columns:
        name = feature(column)
        if column.startswith("num_"):
            parts = [numbers_of(table[column]) for table in tables(files, [column])]
            numbers[name] = moments(np.concatenate(parts))
            continue
        counts: Counter[str] = Counter()
        for table in tables(files, [column]):
            texts = table[column]
            if pa.types.is_list(texts.type):
                texts = pc.list_flatten(texts)
            for pair in pc.value_counts(texts.drop_null()).to_pylist():
                counts[pair["values"]] += pair["counts"]
        values = np.array(list(counts), np.str_)
        categories[name] = frequent(values, np.array(list(counts.values()), np.int64), LEAST)
    return Vocabulary(categories, numbers)


def files_of(day: Partition, table: str) -> list[Path]:
    return [Path(part.path) for part in day.parts(table)]


def columns_of(files: list[Path], prefixes: tuple[str, ...]) -> list[str]:
    """The columns of these roles, in the order of the table; none where there is no file."""
    if not files:
        return []
    names = pq.read_schema(files[0]).names
    return [name for prefix in prefixes for name in with_prefix(names, prefix)]


def tables(files: list[Path], columns: list[str]) -> Iterator[pa.Table]:
    """Some columns of each file."""
    for file in files:
        yield pq.read_table(file, columns=columns)


def values_of(column: pa.ChunkedArray) -> np.ndarray | Bags:
    """The values of a column: numbers with NaN, texts, of which a missing one is empty, or bags."""
    if pa.types.is_list(column.type):
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        texts = pc.list_flatten(column).fill_null("").to_numpy().astype(np.str_)
        return Bags(texts, lengths)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.fill_null("").to_numpy().astype(np.str_)
    return numbers_of(column)


def numbers_of(column: pa.ChunkedArray) -> np.ndarray:
    """The values of a column of numbers, NaN for a missing one."""
    return column.cast(pa.float64()).to_numpy()


def feature(column: str) -> str:
    """The name of a feature: that of its column without the prefix of its role."""
    return column.partition("_")[2]


def in_rows(rows: sp.spmatrix, places: np.ndarray, n: int) -> sp.csr_matrix:
    """The rows added up at their places in a table of n rows. places: (r,)."""
    ones = np.ones(len(places), np.float32)
    return sp.csr_matrix((ones, (places, np.arange(len(places)))), (n, len(places))) @ rows
