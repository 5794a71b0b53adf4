"""The tables of features that the loop publishes, against their rows."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from embeddings.registry.client import Registry
from jobs.features import tables
from jobs.features.tables import publish_counts, publish_producers, publish_profiles
from jobs.judging.labels import Topics
from jobs.lake.schema import FEATURE_TABLES
from jobs.lake.store import Lake, Partition
from jobs.settings import EmbeddingSettings

DAY = date(2024, 3, 1)


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path, f"sqlite:///{tmp_path / 'catalog.db'}")


def test_a_producers_topic_is_the_most_frequent_one_of_its_items(registry):
    topics = Topics(
        names=("fun", "news"),
        item_ids=np.array([b"i0", b"i1", b"i2", b"i3", b"i4"]),
        producer_ids=np.array([b"p2", b"p2", b"p2", b"p0", b"stranger"]),
        topic=np.array([1, 0, 1, 0, 1]),
    )
    ids = np.array([b"p0", b"p1", b"p2"])
    publish_producers(registry, DAY, ids, topics, {"run": "x"})
    names = ["producers.topic", "producers.items"]
    found = registry.features("producer", ["p2", "p1", "p0"], names, as_of=DAY)
    assert found.features["producers.topic"].values.tolist() == [b"news", b"", b"fun"]
    assert found.features["producers.items"].values.tolist() == [3, 0, 1]
    assert registry.version("producers", DAY).lineage == {"run": "x"}


def test_a_log_without_topics_has_no_such_table(registry):
    publish_producers(registry, DAY, np.array([b"p0"]), None, {})
    assert registry.names() == []


def test_counts_are_a_table_of_each_entity_that_occurs(registry, tmp_path):
    rows = [("consumer", "b", 3, 1), ("consumer", "a", 2, 0), ("item", "x", 5, 4)]
    entity, ids, shown, click = map(list, zip(*rows, strict=True))
    table = pa.table({"entity": entity, "id": ids, "shown": shown, "label_click": click})
    (tmp_path / "counts").mkdir()
    pq.write_table(table, tmp_path / "counts" / "part-0.parquet")
    publish_counts(registry, DAY, tmp_path / "counts", {})
    assert registry.names() == ["consumer_counts", "item_counts"]
    found = registry.features("consumer", ["a", "b", "c"], ["consumer_counts.shown"])
    np.testing.assert_array_equal(found.features["consumer_counts.shown"].values, [2, 3, np.nan])
    clicks = registry.features("item", ["x"], ["item_counts.label_click"])
    assert clicks.features["item_counts.label_click"].values.tolist() == [4]


def test_the_days_profiles_are_a_table_of_each_entity_that_has_them(registry, tmp_path):
    consumers = [  # of two files, in no order; names that clash keep their prefix
        pa.table(
            {
                "consumer_id": ["c2", "c1"],
                "cat_degree": ["full", None],
                "cat_days": ["8-14", "1-7"],
                "num_days": [9.0, 3.0],
                "cat__x": ["é" * 150, ""],
                "num_fans": pa.array([np.inf, None], pa.float64()),
            }
        ),
        pa.table(
            {
                "consumer_id": ["c0"],
                "cat_degree": ["low"],
                "cat_days": ["0"],
                "num_days": [0.0],
                "cat__x": [None],
                "num_fans": [7.0],
            },
            schema=pa.schema(
                {
                    "consumer_id": pa.string(),
                    "cat_degree": pa.string(),
                    "cat_days": pa.string(),
                    "num_days": pa.float64(),
                    "cat__x": pa.string(),
                    "num_fans": pa.float64(),
                }
            ),
        ),
    ]
    publish_profiles(registry, DAY, validated_day(tmp_path, consumers=consumers), {"run": "x"})
    assert registry.names() == ["profile"]
    table = registry.load_features(registry.version("profile", DAY))
    expected = {
        "degree": [b"low", b"", b"full"],
        "cat_days": [b"0", b"1-7", b"8-14"],
        "cat__x": [b"", b"", ("é" * 100).encode()],
        "num_days": [0, 3, 9],
        "fans": [7, np.nan, np.nan],
    }
    assert table.ids.tolist() == [b"c0", b"c1", b"c2"]
    assert list(table.columns) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(table.columns[name], values)
    assert registry.version("profile").lineage == {"run": "x"}


def test_a_log_without_profiles_or_with_too_many_publishes_none(
    registry, tmp_path, monkeypatch, caplog
):
    bare = validated_day(tmp_path, items=[pa.table({"item_id": ["i"], "producer_id": ["p"]})])
    publish_profiles(registry, DAY, bare, {})
    monkeypatch.setattr(tables, "MOST_VALUES", 1)
    items = [pa.table({"item_id": ["i", "j"], "cat_tag": ["1", "2"]})]
    publish_profiles(registry, DAY, validated_day(tmp_path, items=items), {})
    assert registry.names() == []
    assert "item_profile is not published for 2024-03-01: it has 2 values" in caplog.text


def validated_day(root: Path, **parts: list[pa.Table]) -> Partition:
    """A validated day with these tables, each in several files."""
    lake = Lake(root / "lake")
    with lake.writing("validate", DAY, recipe="any") as staging:
        for name, of_table in parts.items():
            (staging.path / name).mkdir()
            for number, part in enumerate(of_table):
                pq.write_table(part, staging.path / name / f"part-{number}.parquet")
    return lake.get("validate", DAY)


def test_a_long_topic_is_cut_between_two_characters(registry):
    long = "é" * 150
    topics = Topics((long,), np.array([b"i"]), np.array([b"p"]), np.array([0]))
    publish_producers(registry, DAY, np.array([b"p"]), topics, {})
    found = registry.features("producer", ["p"], ["producers.topic"])
    assert found.features["producers.topic"].values[0].decode() == "é" * 100


@pytest.mark.parametrize("name", FEATURE_TABLES)
def test_no_embedding_has_the_name_of_a_table(name):
    with pytest.raises(ValidationError, match=f"'{name}' is a table of features"):
        EmbeddingSettings(name=name)
