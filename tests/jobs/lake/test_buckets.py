"""Which file holds a key: Spark, Python and the name of the file agree."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.lake.buckets import Part, bucket_of, in_bucket, part_name
from jobs.lake.store import Lake

DAY = date(2024, 1, 1)
KEYS = [*(f"user {n}" for n in range(50)), "", "é", "日本", "🌲"]


def write(lake: Lake, spark, keys: list[str], partitions: int) -> dict[tuple[int, int], set[str]]:
    """Write a table by Spark. Returns (bucket, of) -> the keys in that file."""
    with lake.writing("land", DAY, recipe="s") as staging:
        rows = spark.createDataFrame([(key, n) for n, key in enumerate(keys)], "id string, n int")
        staging.write(rows, "t", ["id", "n"], partitions)
    files = {}
    for part in lake.get("land", DAY).parts("t"):
        files[part.number, part.of] = set(pq.read_table(part.path)["id"].to_pylist())
    return files


@pytest.mark.parametrize("partitions", [1, 2, 3])
def test_a_file_holds_exactly_the_keys_of_its_bucket(tmp_path, spark, partitions):
    expected: dict[tuple[int, int], set[str]] = {}
    for key in KEYS:
        bucket = bucket_of(key.encode(), partitions)
        expected.setdefault((bucket, partitions), set()).add(key)
    assert write(Lake(tmp_path), spark, KEYS * 2, partitions) == expected


def test_an_empty_bucket_does_not_shift_the_numbers_of_the_next(tmp_path, spark):
    """Of 16 buckets, one has rows. Spark writes the first file in any case, for the columns."""
    bucket = bucket_of(b"the only key", 16)
    assert bucket > 0
    files = write(Lake(tmp_path), spark, ["the only key"] * 100, 16)
    assert files == {(0, 16): set(), (bucket, 16): {"the only key"}}


def test_a_table_without_rows_has_its_columns(tmp_path, spark):
    assert write(Lake(tmp_path), spark, [], 4) == {(0, 4): set()}


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_rows_of_a_bucket_are_those_whose_key_hashes_to_it(n):
    column = pa.chunked_array([pa.array([*KEYS, *KEYS[::-1]]).dictionary_encode()])
    numbers = [bucket_of(key.encode(), n) for key in column.to_pylist()]
    for bucket in range(n):
        np.testing.assert_array_equal(in_bucket(column, bucket, n), np.equal(numbers, bucket))


SMALL = st.integers(1, 12)


@given(st.binary(), SMALL, SMALL)
def test_a_file_that_holds_a_key_is_never_skipped(key, n, of):
    part = Part("", bucket_of(key, of), of)
    assert part.meets(bucket_of(key, n), n)


@given(SMALL, SMALL, SMALL)
def test_a_file_meets_a_bucket_only_if_some_hash_belongs_to_both(number, n, of):
    """Against all hashes below n · of."""
    part = Part("", number % of, of)
    met = {h % n for h in range(n * of) if h % of == part.number}
    assert {bucket for bucket in range(n) if part.meets(bucket, n)} == met
    assert part.within(n) == (len(met) == 1)


def test_the_name_of_a_file_states_its_bucket():
    path = Path("/lake", part_name(2, 7))
    assert Part.at(path) == Part("/lake/part-00002-of-00007.parquet", 2, 7)


def test_a_file_of_another_name_may_hold_every_key():
    assert Part.at(Path("/lake/part-00002.parquet")) == Part("/lake/part-00002.parquet", 0, 1)
