"""Rows spread over files by a key, so that a reader of some keys reads only some files.

    part-00001-of-00003.parquet     the rows whose key has crc32(UTF-8) mod 3 = 1

A bucket without rows has no file. The file name states how the rows were spread, so days that were
written with different numbers of buckets can be read together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from pyspark.sql import DataFrame

NAME = re.compile(r"part-(\d+)-of-(\d+)\.parquet")


def bucket_of(key: bytes, n: int) -> int:
    """Which of n buckets a key belongs to; Spark has the same hash (docs/decisions/0012)."""
    return crc32(key) % n


def spread(rows: DataFrame, key: str, n: int) -> DataFrame:
    """One partition per bucket, by the same hash in Spark; a row without a key goes to bucket 0."""
    from pyspark.sql import functions as F

    if n == 1:
        return rows.coalesce(1)  # unlike a repartition, it shuffles nothing
    return rows.repartitionById(n, F.pmod(F.crc32(F.col(key)), F.lit(n)).cast("int"))


def in_bucket(keys: pa.ChunkedArray, bucket: int, n: int) -> np.ndarray:
    """Which rows of a dictionary column have a key of bucket `bucket` of `n`, (rows,) bool."""
    import numpy as np
    import pyarrow as pa

    encoded = keys.combine_chunks()
    distinct = encoded.dictionary.cast(pa.binary()).to_pylist()  # each key is hashed once
    inside = np.array([bucket_of(key, n) == bucket for key in distinct], dtype=bool)
    return inside[encoded.indices.to_numpy()]


@dataclass(frozen=True)
class Part:
    """A file of bucket `number` of `of`."""

    path: str
    number: int
    of: int

    @classmethod
    def at(cls, path: Path) -> Part:
        """The bucket that the file's name states; a file of any other name may hold every key."""
        named = NAME.fullmatch(path.name)
        if named is None:  # one bucket of one
            return cls(str(path), 0, 1)
        return cls(str(path), int(named[1]), int(named[2]))

    def meets(self, bucket: int, n: int) -> bool:
        """Can this file hold a key of bucket `bucket` of `n`?

        Two remainders, by `of` and by `n`, can belong to one hash if and only if they are equal
        modulo gcd(of, n).
        """
        return (self.number - bucket) % gcd(self.of, n) == 0

    def within(self, n: int) -> bool:
        """Do all keys of this file belong to one bucket of `n`?"""
        return self.of % n == 0


def part_name(number: int, of: int) -> str:
    return f"part-{number:05d}-of-{of:05d}.parquet"
