"""A day of examples that stays in its Parquet files and is read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.registry.chunked import Rows
from models.ahead import ahead
from models.features import Batch, Day, FeatureSpec, columns

PIECE = 32_768  # rows, about, that are read ahead of the batches


@dataclass(frozen=True)
class StoredDay:
    """The examples of one day in files, as `models.features.Examples`.

    At most three pieces are in memory: one in use, the next one, and one that is being read. The
    vector tables may be memory-mapped.
    """

    name: str
    space: str  # of the vectors; '' where there are none
    files: tuple[Path, ...]  # one after another in time, and their rows too
    spec: FeatureSpec
    has_vectors: bool  # else every row number counts as -1
    consumer_vectors: Rows  # (n_consumers, V) float32
    producer_vectors: Rows

    def __len__(self) -> int:
        return self.rows

    @cached_property
    def rows(self) -> int:
        return sum(pq.read_metadata(file).num_rows for file in self.files)

    def masked(self) -> StoredDay:
        """The same rows with every vector unknown: they fit a model of any space."""
        nothing = np.zeros((0, self.spec.vector_dim), dtype=np.float32)
        return replace(
            self, space="", has_vectors=False, consumer_vectors=nothing, producer_vectors=nothing
        )

    def load(self) -> Day:
        """All rows in memory."""
        return self._day(pq.read_table(list(self.files), columns=self.columns))

    def pieces(self, size: int) -> Iterator[Day]:
        """Consecutive rows in memory, in order: `size` rows each, the last may have fewer."""
        for table in ahead(tables(self.files, self.columns, size)):
            yield self._day(table)

    def outcomes(self, size: int) -> Iterator[np.ndarray]:
        """The labels of the same pieces, (n, L) float32; no other column is read."""
        for table in tables(self.files, list(self.spec.labels), size):
            yield columns(table, self.spec.labels, np.float32)

    def batches(self, size: int) -> Iterator[Batch]:
        """Consecutive rows, in order; the last batch may be shorter."""
        # A piece has whole batches, so that no batch has rows of two pieces.
        for piece in self.pieces(size * max(1, PIECE // size)):
            yield from piece.batches(size)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        categories = [column.name for column in self.spec.categorical]
        rows = ["consumer_row", "producer_row"] if self.has_vectors else []
        return [*categories, *self.spec.numeric, *self.spec.labels, *rows]

    def _day(self, table: pa.Table) -> Day:
        if not self.has_vectors:
            unknown = pa.array(np.full(table.num_rows, -1))
            for name in ("consumer_row", "producer_row"):
                table = table.append_column(name, unknown)
        return Day.from_table(
            self.name, table, self.spec, self.space, self.consumer_vectors, self.producer_vectors
        )


def tables(files: tuple[Path, ...], columns: list[str], size: int) -> Iterator[pa.Table]:
    """The rows of files, in order: tables of `size` rows, the last may have fewer."""
    held: list[pa.RecordBatch] = []
    missing = size  # rows of a whole table
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(size, columns=columns):
                while len(batch) >= missing:
                    yield pa.Table.from_batches([*held, batch.slice(0, missing)])
                    batch = batch.slice(missing)
                    held, missing = [], size
                if len(batch):
                    held.append(batch)
                    missing -= len(batch)
    if held:
        yield pa.Table.from_batches(held)
