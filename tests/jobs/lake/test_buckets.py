"""Which file a key lies in: Spark, Python and the name of the file agree."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.lake.buckets import Part, bucket_of, part_name
from jobs.lake.store import Lake

DAY = date(2024, 1, 1)


def written(lake: Lake, spark, keys: list[str], partitions: int) -> dict[tuple[int, int], set[str]]:
    """(bucket, of) -> the keys in that file, of a table that Spark has written."""
    with lake.writing("land", DAY, settings="s") as staging:
        rows = spark.createDataFrame([(key, n) for n, key in enumerate(keys)], "id string, n int")
        staging.write(rows, "t", ["id", "n"], partitions)
    parts = lake.get("land", DAY).parts("t")
    return {(p.number, p.of): set(pq.read_table(p.path)["id"].to_pylist()) for p in parts}


@pytest.mark.parametrize("partitions", [1, 2, 3])
def test_a_file_holds_just_the_keys_of_its_bucket(tmp_path, spark, partitions):
    keys = [*(f"user {n}" for n in range(50)), "", "é", "日本", "🌲"]
    expected: dict[tuple[int, int], set[str]] = {}
    for key in keys:
        expected.setdefault((bucket_of(key.encode(), partitions), partitions), set()).add(key)
    assert written(Lake(tmp_path), spark, keys * 2, partitions) == expected


def test_an_empty_bucket_shifts_no_number(tmp_path, spark):
    """Of 16 buckets, one has rows. Spark writes the first file in any case, for the columns."""
    bucket = bucket_of(b"the only key", 16)
    assert bucket > 0
    found = written(Lake(tmp_path), spark, ["the only key"] * 100, 16)
    assert found == {(0, 16): set(), (bucket, 16): {"the only key"}}


def test_a_table_without_rows_has_its_columns(tmp_path, spark):
    assert written(Lake(tmp_path), spark, ["a"][:0], 4) == {(0, 4): set()}


SMALL = st.integers(1, 12)


@given(st.binary(), SMALL, SMALL)
def test_a_file_that_can_hold_a_key_is_never_passed_over(key, n, of):
    part = Part("", bucket_of(key, of), of)
    assert part.meets(bucket_of(key, n), n)


@given(SMALL, SMALL, SMALL)
def test_a_file_meets_a_bucket_only_if_some_hash_lies_in_both(number, n, of):
    """All hashes below n · of, tried."""
    part, hashes = Part("", number % of, of), range(n * of)
    met = {h % n for h in hashes if h % of == part.number}
    assert {bucket for bucket in range(n) if part.meets(bucket, n)} == met
    assert part.within(n) == (len(met) == 1)


def test_the_name_of_a_file_tells_its_bucket_and_another_name_tells_nothing():
    assert Part.at(Path("/lake", part_name(2, 7))) == Part(
        "/lake/part-00002-of-00007.parquet", 2, 7
    )
    assert Part.at(Path("/lake/part-00002.parquet")) == Part("/lake/part-00002.parquet", 0, 1)
