"""Rows spread over files by a key, so that whoever wants some keys reads some files.

    part-00001-of-00003.parquet     the rows whose key has crc32(UTF-8) mod 3 = 1; a bucket without rows has no file

The name says how the rows were spread: files of days that were written with other numbers of buckets can be told apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NAME = re.compile(r"part-(\d+)-of-(\d+)\.parquet")


def bucket_of(key: bytes, n: int) -> int:
    return crc32(key) % n


def spread(rows: DataFrame, key: str, n: int) -> DataFrame:
    """One partition a bucket, by the same hash computed by Spark. A row without a key goes to the first."""
    from pyspark.sql import functions as F

    return (
        rows.repartitionById(n, F.pmod(F.crc32(F.col(key)), F.lit(n)).cast("int"))
        if n > 1
        else rows.coalesce(1)
    )


@dataclass(frozen=True)
class Part:
    """A file of bucket `number` of `of`."""

    path: str
    number: int
    of: int

    @classmethod
    def at(cls, path: Path) -> Part:
        """What the file's name says; of a file with another name nothing is known, it may hold any key."""
        named = NAME.fullmatch(path.name)
        return cls(str(path), int(named[1]), int(named[2])) if named else cls(str(path), 0, 1)

    def meets(self, bucket: int, n: int) -> bool:
        """Can a key of bucket `bucket` of `n` lie here? Equal remainders by `of` and by `n` are equal by their gcd."""
        return (self.number - bucket) % gcd(self.of, n) == 0

    def within(self, n: int) -> bool:
        """Do all keys of this file lie in one bucket of `n`?"""
        return self.of % n == 0


def part_name(number: int, of: int) -> str:
    return f"part-{number:05d}-of-{of:05d}.parquet"
