"""The inputs of a ranker: the list of its columns, and the examples of one day.

A day that fits into memory is a `Day`; one that stays in its files is a `models.stored.StoredDay`.
Training reads both piece by piece.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embeddings.registry.chunked import Rows
from embeddings.registry.errors import SpaceMismatch

if TYPE_CHECKING:
    import pyarrow as pa


class InvalidExamples(ValueError):
    """Examples that no ranker can read."""


@dataclass(frozen=True)
class Categorical:
    """A column of bucket numbers in [0, buckets).

    Columns of one `field` enter the model as one vector: the sum of their embeddings. rows: of the
    column in a model's tables, see `models.admission`; None for one of each bucket. It concerns the
    model alone: columns are equal whose values are.
    """

    name: str
    buckets: int
    field: str
    rows: int | None = dataclasses.field(default=None, compare=False)


@dataclass(frozen=True)
class FeatureSpec:
    """The columns of a table of examples, in the order of the model's inputs."""

    categorical: tuple[Categorical, ...]
    numeric: tuple[str, ...]
    labels: tuple[str, ...]
    vector_dim: int  # length of one published vector

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), sort_keys=True)

    def as_dict(self) -> dict[str, Any]:
        """The columns as JSON values; without what a column does not have."""
        content = asdict(self)
        for column in content["categorical"]:
            if column["rows"] is None:
                del column["rows"]
        return content

    @classmethod
    def from_json(cls, text: str) -> FeatureSpec:
        raw = json.loads(text)
        categorical = tuple(Categorical(**column) for column in raw["categorical"])
        return cls(
            categorical=categorical,
            numeric=tuple(raw["numeric"]),
            labels=tuple(raw["labels"]),
            vector_dim=raw["vector_dim"],
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The categorical fields, in order of first appearance."""
        return tuple(dict.fromkeys(column.field for column in self.categorical))


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a day, as the model reads them.

    B rows, C categorical and N numeric columns, V vector length, L labels.
    """

    categories: np.ndarray  # (B, C) int64 bucket numbers
    numbers: np.ndarray  # (B, N) float32, NaN where unknown
    vectors: np.ndarray  # (B, 2, V) float32 vectors of consumer and producer, zeros where unknown
    labels: np.ndarray  # (B, L) float32 0/1

    def part(self, rows: slice) -> Batch:
        """Some of the rows, without a copy."""
        return Batch(
            self.categories[rows], self.numbers[rows], self.vectors[rows], self.labels[rows]
        )


class Examples(Protocol):
    """The examples of one day in time order, in memory or in files."""

    @property
    def name(self) -> str: ...

    @property
    def space(self) -> str:
        """Of the vectors; '' where there are none."""
        ...

    @property
    def has_vectors(self) -> bool:
        """Does any row have the vector of its consumer or of its producer?"""
        ...

    def __len__(self) -> int: ...

    def pieces(self, size: int) -> Iterator[Day]:
        """Consecutive rows in memory, in order: `size` rows each, the last may have fewer."""
        ...

    def outcomes(self, size: int) -> Iterator[np.ndarray]:
        """The labels of the same pieces, (n, L) float32, without reading anything else."""
        ...

    def batches(self, size: int) -> Iterator[Batch]:
        """Consecutive rows, in order; the last batch may be shorter."""
        ...


@dataclass(frozen=True)
class Day:
    """The examples of one day in time order, and the vectors that were published before it.

    The vector tables may be memory-mapped and sharded: only the rows of a batch are read.
    """

    name: str
    space: str  # of the vectors; '' where there are none, then every row number is -1
    categories: np.ndarray  # (n, C) int64
    numbers: np.ndarray  # (n, N) float32
    labels: np.ndarray  # (n, L) float32
    consumer_rows: np.ndarray  # (n,) int64 into consumer_vectors, -1 unknown
    producer_rows: np.ndarray
    consumer_vectors: Rows  # (n_consumers, V) float32
    producer_vectors: Rows  # (n_producers, V)

    @classmethod
    def from_table(
        cls,
        name: str,
        table: pa.Table,
        spec: FeatureSpec,
        space: str,
        consumers: Rows,
        producers: Rows,
    ) -> Day:
        """The columns of `spec` from a table of examples. Raises KeyError for a missing column."""
        return cls(
            name=name,
            space=space,
            categories=columns(table, [column.name for column in spec.categorical], np.int64),
            numbers=columns(table, spec.numeric, np.float32),
            labels=columns(table, spec.labels, np.float32),
            consumer_rows=table["consumer_row"].to_numpy(),
            producer_rows=table["producer_row"].to_numpy(),
            consumer_vectors=consumers,
            producer_vectors=producers,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_vectors(self) -> bool:
        """Does any row have the vector of its consumer or of its producer?"""
        return bool((self.consumer_rows >= 0).any() or (self.producer_rows >= 0).any())

    def check(self, spec: FeatureSpec) -> None:
        """Raise InvalidExamples for a value that no ranker can read, and name its column.

        Such a value would go unnoticed: a bucket that does not exist is one of the next column, and
        an infinite number or an unknown label makes every weight NaN.
        """
        buckets = np.array([column.buckets for column in spec.categorical])
        outside = ((self.categories < 0) | (self.categories >= buckets)).any(axis=0)
        infinite = np.isinf(self.numbers).any(axis=0)
        neither = ((self.labels != 0) & (self.labels != 1)).any(axis=0)
        for position in np.flatnonzero(outside):
            column = spec.categorical[position]
            raise InvalidExamples(
                f"{self.name}: '{column.name}' has a bucket outside of 0 to {column.buckets - 1}. "
                "Hash the values as the examples of the model were, into that many buckets."
            )
        for position in np.flatnonzero(infinite):
            raise InvalidExamples(
                f"{self.name}: '{spec.numeric[position]}' has an infinite value. "
                "Numbers are finite, or NaN where unknown: correct them at the source."
            )
        for position in np.flatnonzero(neither):
            raise InvalidExamples(
                f"{self.name}: '{spec.labels[position]}' has a value other than 0 and 1. "
                "Leave out rows whose outcome is unknown."
            )

    def masked(self) -> Day:
        """The same rows with every vector unknown: they fit a model of any space."""
        unknown = np.full(len(self), -1)
        nothing = np.zeros((0, self.consumer_vectors.shape[1]), dtype=np.float32)
        return replace(
            self,
            space="",
            consumer_rows=unknown,
            producer_rows=unknown,
            consumer_vectors=nothing,
            producer_vectors=nothing,
        )

    def pieces(self, size: int) -> Iterator[Day]:
        """Consecutive rows, in order, without a copy; the last piece may have fewer."""
        for start in range(0, len(self), size):
            yield self.part(slice(start, start + size))

    def outcomes(self, size: int) -> Iterator[np.ndarray]:
        """The labels of consecutive rows, (n, L) float32."""
        for piece in self.pieces(size):
            yield piece.labels

    def last(self, rows: int) -> Day:
        """The last of the rows, at most so many; rows >= 1."""
        return self.part(slice(-rows, None))

    def reordered(self, order: np.ndarray) -> Day:
        """The rows in another order: (n,) int64."""
        return self.part(order)

    def followed_by(self, other: Day) -> Day:
        """The rows of both, of one day with the same vectors."""
        return replace(
            self,
            categories=np.concatenate([self.categories, other.categories]),
            numbers=np.concatenate([self.numbers, other.numbers]),
            labels=np.concatenate([self.labels, other.labels]),
            consumer_rows=np.concatenate([self.consumer_rows, other.consumer_rows]),
            producer_rows=np.concatenate([self.producer_rows, other.producer_rows]),
        )

    def part(self, rows: slice | np.ndarray) -> Day:
        """Some of the rows: a slice of them, or (n,) row numbers."""
        return replace(
            self,
            categories=self.categories[rows],
            numbers=self.numbers[rows],
            labels=self.labels[rows],
            consumer_rows=self.consumer_rows[rows],
            producer_rows=self.producer_rows[rows],
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """Consecutive rows, in order; the last batch may be shorter."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            # Only now: the vectors of a whole day need not fit into memory.
            consumers = gather(self.consumer_vectors, self.consumer_rows[rows])
            producers = gather(self.producer_vectors, self.producer_rows[rows])
            yield Batch(
                categories=self.categories[rows],
                numbers=self.numbers[rows],
                vectors=np.stack([consumers, producers], axis=1),
                labels=self.labels[rows],
            )


def columns(table: pa.Table, names: tuple[str, ...] | list[str], dtype: type) -> np.ndarray:
    """Columns side by side, (n, len(names)); nulls of a float column are NaN."""
    out = np.empty((table.num_rows, len(names)), dtype=dtype)
    for position, name in enumerate(names):
        out[:, position] = table[name].to_numpy()
    return out


def gather(vectors: Rows, rows: np.ndarray) -> np.ndarray:
    """vectors[rows], with zeros where a row is -1."""
    out = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
    known = rows >= 0
    out[known] = vectors[rows[known]]
    return out


def one_space(spaces: dict[str, str]) -> str:
    """The one space that all of these are in; '' where none of them has vectors.

    spaces: name of a day or model -> its space, '' for one without vectors, which fits any space.
    Raises SpaceMismatch, which names two owners of different spaces.
    """
    owners: dict[str, str] = {}  # space -> the first that is in it
    for owner, space in spaces.items():
        if space:
            owners.setdefault(space, owner)
    if len(owners) > 1:
        (space_a, owner_a), (space_b, owner_b), *_ = owners.items()
        raise SpaceMismatch(
            f"{owner_a} is in space '{space_a}', {owner_b} in space '{space_b}': their vectors "
            "cannot be mixed. Use vectors of one space, or mask those of the other (Day.masked)."
        )
    return next(iter(owners), "")
