"""Which buckets of the categories have a vector of their own: those that were read often enough.

Ids are hashed to buckets. With as many buckets as vectors, ids share some; with many more buckets,
nearly all vectors would be of ids that were read once or never. So a bucket is admitted when it was
read in enough rows, and gets a row in the table of vectors. All others of a column share its first
row, which learns what is true of an id that is hardly known. A model that goes on from an older one
keeps the rows of its buckets, admits new ones, and evicts those that were not read for some days.

Shapes: C columns, R buckets of all columns, side by side in the order of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from models.features import FeatureSpec

FILE = "seen.safetensors"


@dataclass(frozen=True)
class Seen:
    """What is known of every bucket: (R,) int32 each.

    rows: that it was read in, 0 once it is forgotten. age: days from the last training that read it
    to the newest one.
    """

    rows: np.ndarray
    age: np.ndarray

    @classmethod
    def nothing(cls, spec: FeatureSpec) -> Seen:
        """Before the first training."""
        size = bucket_count(spec)
        return cls(np.zeros(size, np.int32), np.zeros(size, np.int32))

    def after(self, counts: np.ndarray, days: int, evict_after_days: float) -> Seen:
        """What is known after a training; what was not read for so many days is forgotten.

        counts: (R,) rows of the training in which each bucket was read. days: since the last
        training.
        """
        age = np.where(counts > 0, 0, self.age + days)
        rows = np.minimum(self.rows + counts, np.iinfo(np.int32).max)
        rows = np.where(age < evict_after_days, rows, 0)
        return Seen(rows.astype(np.int32), np.where(rows > 0, age, 0).astype(np.int32))

    def save(self, home: Path) -> None:
        """Write the buckets that were read below `home`; the same ones give the same bytes."""
        buckets = np.flatnonzero(self.rows)
        known = {"buckets": buckets, "rows": self.rows[buckets], "age": self.age[buckets]}
        save_file(known, home / FILE)

    @classmethod
    def load(cls, home: Path, spec: FeatureSpec) -> Seen:
        """Read what `save` wrote."""
        known = load_file(home / FILE)
        seen = cls.nothing(spec)
        seen.rows[known["buckets"]] = known["rows"]
        seen.age[known["buckets"]] = known["age"]
        return seen


class BucketCounts:
    """Counts the rows in which each bucket is read: `counts`, (R,) int64."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.offset_C = bucket_offsets(spec)
        self.counts = np.zeros(bucket_count(spec), np.int64)

    def add(self, categories: np.ndarray) -> None:
        """categories: (n, C) bucket numbers of their columns."""
        np.add.at(self.counts, (categories + self.offset_C).ravel(), 1)


@dataclass(frozen=True)
class Rows:
    """The rows of a table in which the buckets of all columns have theirs.

    of_bucket: (R,) int32, the row of every bucket. shared: (C,) the row that the buckets of a
    column without one of their own share, which is its first. count: rows of the table.
    """

    of_bucket: np.ndarray
    shared: np.ndarray
    count: int

    @classmethod
    def of(cls, spec: FeatureSpec, admitted: np.ndarray) -> Rows:
        """admitted: (R,) bool, the buckets with a row of their own; in the order of the buckets."""
        parts = []
        shared = []
        count = 0
        for own in np.split(admitted, bucket_offsets(spec)[1:]):
            shared.append(count)
            parts.append(count + np.where(own, np.cumsum(own), 0))
            count += 1 + int(own.sum())
        return cls(np.concatenate(parts).astype(np.int32), np.array(shared), count)

    def sizes(self) -> np.ndarray:
        """Rows of every column: (C,)."""
        return np.diff(self.shared, append=self.count)

    def own(self, spec: FeatureSpec) -> np.ndarray:
        """Which buckets have a row of their own: (R,) bool."""
        return self.of_bucket != np.repeat(self.shared, bucket_sizes(spec))

    def found_in(self, older: Rows, spec: FeatureSpec) -> np.ndarray:
        """The row of an older table that each of these rows goes on from: (count,).

        A bucket that is new among those with a row of their own goes on from the shared one.
        """
        found = np.empty(self.count, np.int64)
        own = self.own(spec)
        found[self.of_bucket[own]] = older.of_bucket[own]
        found[self.shared] = older.shared
        return found


def with_rows(spec: FeatureSpec, rows: Rows) -> FeatureSpec:
    """The same columns, of which each has so many rows in the tables of a model."""
    columns = []
    for column, size in zip(spec.categorical, rows.sizes().tolist(), strict=True):
        columns.append(replace(column, rows=size))
    return replace(spec, categorical=tuple(columns))


def bucket_sizes(spec: FeatureSpec) -> np.ndarray:
    """Buckets of every column: (C,)."""
    return np.array([column.buckets for column in spec.categorical])


def bucket_offsets(spec: FeatureSpec) -> np.ndarray:
    """Buckets before each column: (C,)."""
    sizes = bucket_sizes(spec)
    return np.cumsum(sizes) - sizes


def bucket_count(spec: FeatureSpec) -> int:
    """R, buckets of all columns."""
    return int(bucket_sizes(spec).sum())
