"""What the events of a day have, counted: the input of the monitors.

Events are the impressions of a day, or the engagements of a log without impressions. The profiles
of consumers and items count as often as they have events. Of each file a piece of one column at a
time is in memory, and of each column no more than its counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import ParquetFile

from embeddings.monitors.divergence import histogram, quantile_edges
from embeddings.monitors.overlap import top
from embeddings.registry.vectors import encode_ids
from jobs.lake.schema import CONSUMER_TABLE, IMPRESSION_TABLE, ITEM_TABLE, with_prefix
from jobs.lake.store import Partition
from models.scratch import PIECE

TOP = 1000  # most frequent values of a column that are counted one by one
IDS = {"consumers": "consumer_id", "producers": "producer_id", "items": "item_id"}
PROFILES = {"consumers": CONSUMER_TABLE, "items": ITEM_TABLE}
SEEN, NEW = b"seen", b"new"


@dataclass(frozen=True)
class Counted:
    """The values of a column. values: (n,) bytes, each once; counts: (n,) rows of each.

    rows: of all values, also of those that are not counted one by one.
    """

    values: np.ndarray
    counts: np.ndarray
    rows: int

    def share(self, value: bytes) -> float:
        """Of the rows with any value that have this one; NaN without rows."""
        known = self.rows - self.counts[self.values == b""].sum()
        return float(self.counts[self.values == value].sum() / known) if known else float("nan")


@dataclass(frozen=True)
class DayCounts:
    """One day. columns: by names that a person reads. new: the share of new ids, by entity."""

    columns: dict[str, Counted] = field(default_factory=dict)
    new: dict[str, float] = field(default_factory=dict)


class Counter:
    """Counts one day after the other, and remembers the ids that it has seen.

    table: of the events. A day without it has no counts.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self.known: dict[str, pa.Array] = {}  # entity -> every id so far
        self.before: dict[str, pa.Array] = {}  # entity -> the ids of the day before
        self.edges: dict[str, np.ndarray] = {}  # column -> of its bins, as of its first day

    def count(self, day: Partition | None, shares: bool = False) -> DayCounts:
        """The next day; None: it was refused, or has no rows. shares: of new ids as well."""
        if day is None or not day.has(self.table):
            self.before = {}
            return DayCounts()
        ids, columns = self._events(day)
        new = {}
        for entity, (values, counts) in ids.items():
            if shares and entity in self.known:
                new[entity] = new_share(values, self.known[entity])
            if entity in self.before:
                columns[f"{entity} of the day before"] = self._returning(entity, values, counts)
        for entity in PROFILES:
            columns |= self._profiles(day, entity, *ids[entity])
        columns["producers"] = most_frequent(*ids["producers"])
        if len(ids["items"][0]):
            columns["items"] = most_frequent(*ids["items"])
        self._remember(ids)
        return DayCounts(columns, new)

    def _events(
        self, day: Partition
    ) -> tuple[dict[str, tuple[pa.Array, np.ndarray]], dict[str, Counted]]:
        """The ids of each entity with their events, and the columns of the events."""
        found: dict[str, list[pa.Table]] = {}
        for part in day.parts(self.table):
            with ParquetFile(part.path) as file:
                for column in (*IDS.values(), *self._event_columns(file.schema_arrow.names)):
                    counted = found.setdefault(column, [])
                    counted += [frequencies(rows[column]) for rows in pieces(file, column)]
        ids = {}
        for entity, column in IDS.items():
            values, counts = merged(found.pop(column))
            there = values.is_valid()
            ids[entity] = (values.filter(there), counts[there.to_numpy(zero_copy_only=False)])
        return ids, {title(name): most_frequent(*merged(of)) for name, of in found.items()}

    def _event_columns(self, names: list[str]) -> list[str]:
        if self.table == IMPRESSION_TABLE:
            return [*with_prefix(names, "label_"), *with_prefix(names, "ctx_")]
        return ["kind"]

    def _profiles(
        self, day: Partition, entity: str, ids: pa.Array, counts: np.ndarray
    ) -> dict[str, Counted]:
        """The columns of the profiles, each row as often as its id has events."""
        found: dict[str, list[pa.Table]] = {}
        for part in day.parts(PROFILES[entity]):
            with ParquetFile(part.path) as file:
                at = pc.index_in(file.read([IDS[entity]])[IDS[entity]], value_set=ids)
                rows = at.is_valid()
                events = counts[at.drop_null().to_numpy()]
                for column in profile_columns(file):
                    values = file.read([column])[column].filter(rows)
                    name = f"{title(column)} of {entity}"
                    if column.startswith("num_"):
                        each = self._binned(name, values.to_numpy(), events)
                    else:
                        each = summed(pa.table({"value": values, "n": events}))
                    found.setdefault(name, []).append(each)
        return {name: most_frequent(*merged(of)) for name, of in found.items()}

    def _binned(self, name: str, numbers: np.ndarray, events: np.ndarray) -> pa.Table:
        """The bins of the numbers that have events, and how many: as `frequencies`."""
        numbers = numbers.astype(np.float64)
        if name not in self.edges:
            self.edges[name] = quantile_edges(numbers, times=events)
        counts = histogram(numbers, self.edges[name], events)
        bins = np.flatnonzero(counts)
        return pa.table({"value": bins, "n": counts[bins]})

    def _returning(self, entity: str, values: pa.Array, counts: np.ndarray) -> Counted:
        """How many events have an id that the day before has."""
        seen = pc.is_in(values, value_set=self.before[entity]).to_numpy(zero_copy_only=False)
        both = np.array([counts[seen].sum(), counts[~seen].sum()])
        return Counted(np.array([SEEN, NEW]), both, int(both.sum()))

    def _remember(self, ids: dict[str, tuple[pa.Array, np.ndarray]]) -> None:
        self.before = {entity: values for entity, (values, _) in ids.items() if len(values)}
        for entity, values in self.before.items():
            chunks = [values, *([self.known[entity]] if entity in self.known else [])]
            self.known[entity] = pc.unique(pa.chunked_array(chunks))


def new_share(ids: pa.Array, known: pa.Array) -> float:
    """As `embeddings.monitors.overlap` has it, by hashing: faster than sorting millions of ids."""
    seen = pc.is_in(ids, value_set=known).to_numpy(zero_copy_only=False)
    return float(np.mean(~seen)) if len(seen) else float("nan")


def title(column: str) -> str:
    """'ctx_tab' -> 'context tab'."""
    role, _, name = column.partition("_")
    words = {"label": "label", "ctx": "context", "cat": "category", "num": "number"}
    return f"{words[role]} {name}" if role in words else column


def profile_columns(file: ParquetFile) -> Iterator[str]:
    names = file.schema_arrow.names
    yield from with_prefix(names, "cat_")
    yield from with_prefix(names, "num_")


def pieces(file: ParquetFile, column: str) -> Iterator[pa.RecordBatch | pa.Table]:
    """The rows of one column, at least one piece."""
    if not file.metadata.num_rows:
        yield file.schema_arrow.empty_table()
    yield from file.iter_batches(PIECE, columns=[column])


def frequencies(column: pa.ChunkedArray | pa.Array) -> pa.Table:
    """The distinct values of a column, and how often each occurs: columns value and n."""
    counted = pc.value_counts(column)
    return pa.table({"value": counted.field("values"), "n": counted.field("counts")})


def summed(counted: pa.Table) -> pa.Table:
    """The same table with every value once."""
    sums = counted.group_by("value", use_threads=False).aggregate([("n", "sum")])
    return sums.rename_columns({"n_sum": "n"})


def merged(tables: list[pa.Table]) -> tuple[pa.Array, np.ndarray]:
    """The values of several tables and their counts, each value once."""
    whole = tables[0] if len(tables) == 1 else summed(pa.concat_tables(tables))
    return whole["value"].combine_chunks(), whole["n"].to_numpy()


def most_frequent(values: pa.Array, counts: np.ndarray, k: int = TOP) -> Counted:
    """The k most frequent values, most frequent first; a missing one is empty."""
    rows = int(counts.sum())
    if len(counts) > k:  # all of a tie, which `top` decides
        least = np.partition(counts, -k)[-k]
        values, counts = values.filter(pa.array(counts >= least)), counts[counts >= least]
    tokens = as_bytes(values)
    order = np.argsort(tokens, kind="stable")
    tokens, counts = tokens[order], counts[order]
    best = top(tokens, counts, k)
    return Counted(best, counts[np.searchsorted(tokens, best)], rows)


def as_bytes(values: pa.Array) -> np.ndarray:
    texts = values.cast(pa.string()).fill_null("")
    return encode_ids(texts.to_numpy(zero_copy_only=False))
