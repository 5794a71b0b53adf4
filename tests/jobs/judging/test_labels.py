"""What a day's tables tell the benchmarks, against loops over their rows."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from embeddings.benchmarks.tasks.base import Case
from embeddings.sampling import hashes
from jobs.judging.labels import (
    read_engagements,
    read_topics,
    with_consumer_topics,
    with_engagements,
    with_producer_topics,
    with_profiles,
)
from jobs.lake.store import Partition

DAY = date(2024, 3, 1)
WEIGHTS = {"hate": 0.0, "like": 3.0}
PRODUCERS = ["p2", "p0", "p1"]  # in the order of the matrix, which is not that of the ids


def partition(folder: Path, tables: dict[str, list[pa.Table]]) -> Partition:
    """A committed day with these tables, each in as many files as it has parts."""
    files = {}
    for name, parts in tables.items():
        (folder / name).mkdir(parents=True)
        for number, part in enumerate(parts):
            file = f"{name}/part-{number:05d}.parquet"
            pq.write_table(part, folder / file)
            files[file] = "digest"
    return Partition("validate", DAY, folder, "digest", {}, files, "recipe", {})


def engagement(consumer: str, producer: str, item: str | None, kind: str = "like", value=1.0):
    return {
        "consumer_id": consumer,
        "producer_id": producer,
        "item_id": item,
        "kind": kind,
        "value": value,
    }


ROWS = [
    engagement("ann", "p0", "i0"),
    engagement("ann", "p0", "i1", "view"),
    engagement("ann", "new", "i9"),
    engagement("ann", "other", None),
    engagement("ann", "new", "i9", "view"),
    engagement("bob", "p2", "i2"),
    engagement("bob", "p1", "i0", "hate"),
    engagement("bob", "p1", "i0", "like", 0.0),
    engagement("zoë", "newest", "i3"),
]
ITEMS = pa.table(
    {
        "item_id": ["i0", "i1", "i2", "i3", "i4"],
        "producer_id": ["p0", "p0", "p2", "newest", "p1"],
        "cat_tag": ["news", "fun", "fun", None, "news"],
    }
)
PROFILES = pa.table(
    {
        "consumer_id": ["zoë", "cyd", "ann"],
        "cat_degree": ["full", "low", None],
        "num_age": [None, 30.0, 20.0],
    }
)


@pytest.fixture
def day(tmp_path) -> Partition:
    schema = pa.schema(
        [(name, pa.string()) for name in ("consumer_id", "producer_id", "item_id", "kind")]
        + [("value", pa.float64())]
    )
    parts = [pa.Table.from_pylist(rows, schema) for rows in (ROWS[:5], ROWS[5:], [])]
    tables = {"engagements": parts, "items": [ITEMS[:2], ITEMS[2:]], "consumers": [PROFILES]}
    return partition(tmp_path, tables)


def case_of(consumers: list[str]) -> Case:
    n, m = len(consumers), len(PRODUCERS)
    return Case(
        consumer_ids=np.array([id_.encode() for id_ in consumers]),
        consumers=np.ones((n, 2), np.float32),
        consumer_counts=np.ones(n, np.int64),
        producer_ids=np.array([id_.encode() for id_ in PRODUCERS]),
        producers=np.ones((m, 2), np.float32),
        producer_counts=np.ones(m, np.int64),
        window=sp.csr_matrix((n, m)),
    )


def test_engagements_that_count_are_those_with_a_strength(day):
    found = read_engagements(day, WEIGHTS, most=10)
    assert [id_.decode() for id_ in found.consumer_ids.tolist()] == ["ann", "bob", "zoë"]
    names = [id_.decode() for id_ in found.consumer_ids[found.consumers].tolist()]
    pairs = Counter(zip(names, found.producer_ids.tolist(), strict=True))
    expected = Counter()
    for row in ROWS:
        if WEIGHTS.get(row["kind"], 1.0) * row["value"] > 0:
            expected[row["consumer_id"], row["producer_id"].encode()] += 1
    assert pairs == expected


@pytest.mark.parametrize("most", [1, 2])
def test_the_consumers_with_the_smallest_hashes_are_chosen(day, most):
    """Whatever file they are in."""
    everybody = read_engagements(day, WEIGHTS, most=10).consumer_ids
    expected = sorted(everybody[np.argsort(hashes(everybody))[:most]].tolist())
    assert read_engagements(day, WEIGHTS, most).consumer_ids.tolist() == expected


def test_a_day_without_engagements_has_no_consumers(tmp_path):
    assert len(read_engagements(partition(tmp_path, {}), WEIGHTS, 10).consumer_ids) == 0


def test_engagements_under_the_columns_of_a_version(day):
    case = with_engagements(case_of(["ann", "bob", "zoë"]), read_engagements(day, WEIGHTS, 10))
    # p2, p0, p1; ann has p0 twice, and two producers that the version lacks.
    np.testing.assert_array_equal(case.engaged.toarray(), [[0, 2, 0], [1, 0, 0], [0, 0, 0]])
    assert case.elsewhere.tolist() == [2, 0, 1]


def test_topics_of_producers_are_counted_by_item(day):
    case = with_producer_topics(case_of(["ann"]), read_topics(day, "cat_tag"))
    assert case.topics == ("fun", "news")
    np.testing.assert_array_equal(case.producer_topics.toarray(), [[1, 0], [1, 1], [0, 1]])


def test_topics_of_consumers_are_counted_by_engagement(day):
    engagements = read_engagements(day, WEIGHTS, 10)
    topics = read_topics(day, "cat_tag")
    case = with_consumer_topics(case_of(["ann", "bob", "zoë"]), engagements, topics)
    np.testing.assert_array_equal(case.consumer_topics.toarray(), [[1, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("column", ["cat_nope", "cat_null", "cat_blank"])
def test_a_log_without_topics_has_none(tmp_path, column):
    items = ITEMS.append_column("cat_null", pa.nulls(len(ITEMS), pa.string()))
    items = items.append_column("cat_blank", pa.array([""] * len(ITEMS)))
    day = partition(tmp_path, {"items": [items]})
    assert read_topics(day, column) is None
    assert with_producer_topics(case_of(["ann"]), read_topics(day, column)).producer_topics is None


def test_profiles_are_those_of_the_cases_consumers(day):
    case = with_profiles(case_of(["ann", "bob", "zoë"]), day)
    assert case.profiles["cat_degree"].tolist() == ["", "", "full"]
    np.testing.assert_array_equal(case.profiles["num_age"], [20, np.nan, np.nan])


def test_a_log_without_profiles_has_none(tmp_path):
    assert with_profiles(case_of(["ann"]), partition(tmp_path, {})).profiles is None


@pytest.mark.parametrize("table", ["consumers", "items", "engagements"])
def test_an_empty_table_is_as_good_as_none(tmp_path, day, table):
    rows = pq.read_table(day.path / table).slice(0, 0)
    empty = partition(tmp_path / "empty", {table: [rows]})
    assert with_profiles(case_of(["ann"]), empty).profiles is None
    assert read_topics(empty, "cat_tag") is None
    assert len(read_engagements(empty, WEIGHTS, 10).consumer_ids) == 0
