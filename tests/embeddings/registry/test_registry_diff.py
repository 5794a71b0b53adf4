"""The difference of two versions: ids, drift, neighbours and lineage, checked by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish, vectors

from embeddings.benchmarks.results import Result
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry import diff as diffs
from embeddings.registry.diff import lineage_diff
from embeddings.registry.shards import write_shard
from embeddings.registry.vectors import FIELDS, Vectors

NEXT = DAY + timedelta(days=1)


def publish_producers(registry, day, producer: Vectors, space: str = SPACE, **lineage):
    n, dim = producer.vectors.shape
    fold_in = SVDFoldIn(np.ones((n, dim), np.float32), np.ones(n))
    return registry.publish("author", day, space, {"producer": producer}, fold_in, lineage)


def test_ids_gained_and_lost_are_counted_and_named(plain):
    old = publish_producers(plain, DAY, vectors([f"p{i}" for i in range(10)]))
    new = publish_producers(plain, NEXT, vectors(["a-longer-id", *(f"p{i}" for i in range(7, 12))]))
    found = plain.diff(old, new).entities["producer"]
    assert (found.gained, found.lost, found.common, found.sampled) == (3, 7, 3, 3)
    assert found.gained_ids == ["a-longer-id", "p10", "p11"]
    assert found.lost_ids == ["p0", "p1", "p2", "p3", "p4"]
    back = plain.diff(new, old).entities["producer"]
    assert (back.gained, back.lost, back.gained_ids) == (7, 3, found.lost_ids)


def test_an_entity_that_one_version_lacks_is_gained_whole(plain):
    old = publish_producers(plain, DAY, parts()[0]["producer"])
    found = plain.diff(old, publish(plain, NEXT)).entities["consumer"]
    assert (found.gained, found.lost, found.common) == (9, 0, 0)
    assert (found.drift, found.overlap) == (None, None)
    assert found.drift_reason == "no id has a vector other than zero in both versions"


def test_drift_is_the_mean_and_a_low_percentile_of_the_cosines(plain):
    """Turned by known angles; a vector of zeros has no cosine; length does not matter."""
    degrees = np.arange(0, 101, 10.0)
    angles = np.radians(degrees)
    ids = [f"p{i:02d}" for i in range(12)]
    before = replace(vectors(ids, dim=2), vectors=np.tile(np.float32([2, 0]), (12, 1)))
    turned = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    after = replace(before, vectors=np.vstack([turned, [[0, 0]]]).astype(np.float32))
    old, new = publish_producers(plain, DAY, before), publish_producers(plain, NEXT, after)
    drift = plain.diff(old, new).entities["producer"].drift
    assert drift.mean == pytest.approx(np.cos(angles).mean(), abs=1e-6)
    assert drift.p10 == pytest.approx(np.cos(np.radians(90)), abs=1e-6)  # 1 of 10 is lower


def test_the_busy_ids_that_have_moved_most_are_named(plain):
    """One with few engagements turns by chance: it is not."""
    ids = [f"p{i:02d}" for i in range(10)]
    counts = np.array([9, 1, 9, 9, 1, 9, 9, 1, 1, 1], np.int32)
    angles = np.radians([10, 90, 50, 20, 80, 0, 40, 0, 0, 0])
    before = vectors(ids, dim=2)
    before = replace(before, vectors=np.tile(np.float32([1, 0]), (10, 1)), counts=counts)
    turned = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    old = publish_producers(plain, DAY, before)
    new = publish_producers(plain, NEXT, replace(before, vectors=turned))
    moved = plain.diff(old, new).entities["producer"].drift.moved
    assert [each.id for each in moved] == ["p02", "p06", "p03", "p00", "p05"]
    assert moved[0].cosine == pytest.approx(np.cos(np.radians(50)), abs=1e-6)


def test_two_spaces_have_no_drift_but_neighbours(plain):
    """A rotation changes every cosine between the versions, and no neighbour."""
    before = vectors([f"p{i}" for i in range(40)])
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].astype(np.float32)
    after = replace(before, vectors=before.vectors @ rotation)
    old = publish_producers(plain, DAY, before)
    new = publish_producers(plain, NEXT, after, space="author/2022-04-26")
    found = plain.diff(old, new).entities["producer"]
    assert (found.drift, found.overlap) == (None, 1)
    assert "in space 'author/2022-04-25' and" in found.drift_reason
    assert "in space 'author/2022-04-26'" in found.drift_reason
    shorter = replace(before, vectors=before.vectors[:, :2])
    short = publish_producers(plain, NEXT, shorter)
    found = plain.diff(old, short).entities["producer"]
    assert (found.drift, found.overlap < 1) == (None, True)
    assert "r1 has vectors of length 3 and" in found.drift_reason


def test_the_rows_of_several_shards_are_paired_by_id(plain, tmp_path):
    whole = vectors([f"p{i:02d}" for i in range(30)])
    for number, rows in enumerate((slice(1, None, 2), slice(0, None, 2))):
        shard = [getattr(whole, field)[rows] for field in FIELDS]
        write_shard(tmp_path / "shards", number, Vectors(*shard))
    old = publish_producers(plain, DAY, whole)
    fold_in = SVDFoldIn(np.ones((30, 3), np.float32), np.ones(30))
    entities = {"producer": tmp_path / "shards"}
    new = plain.publish("author", NEXT, SPACE, entities, fold_in, {})
    found = plain.diff(old, new).entities["producer"]
    assert (found.drift.p10, found.overlap) == (pytest.approx(1), 1)


def test_of_many_ids_the_same_sample_is_compared_on_every_day(plain, monkeypatch):
    """The sample of the common ids does not depend on who else is there."""
    monkeypatch.setattr(diffs, "SAMPLE", 10)
    ids = [f"p{i}" for i in range(60)]
    steady = vectors(ids)
    moved = replace(steady, vectors=-steady.vectors)
    expected = diffs.smallest_hashes(steady.ids, 10)
    moved.vectors[expected] = steady.vectors[expected]
    old, new = publish_producers(plain, DAY, steady), publish_producers(plain, NEXT, moved)
    found = plain.diff(old, new).entities["producer"]
    assert (found.common, found.sampled, found.drift.mean) == (60, 10, pytest.approx(1))


def test_lineage_fields_that_differ_are_named_with_both_values(plain):
    lineage = {"run": "x", "same": [1], "metrics": {"auc": 0.5, "loss": 1}, "gone": 1}
    old = publish(plain, DAY, **lineage)
    new = publish(plain, NEXT, run="y", same=[1], metrics={"auc": 0.6, "loss": 1, "new": 2})
    assert plain.diff(old, new).lineage == {
        "run": ("x", "y"),
        "gone": (1, None),
        "metrics.auc": (0.5, 0.6),
        "metrics.new": (None, 2),
    }
    assert lineage_diff(lineage, lineage) == {}


def test_a_version_does_not_differ_from_itself(plain):
    version = publish(plain)
    found = plain.diff(version, version)
    assert found.lineage == {}
    for entity in found.entities.values():
        assert (entity.gained, entity.lost, entity.overlap) == (0, 0, 1)
        assert entity.drift.p10 == pytest.approx(1)


def result(metric: str, on, value: float, half: float = 0.03) -> Result:
    return Result("task", metric, on, value, value - half, value + half, 50, {})


def test_benchmarks_are_compared_on_the_newest_day_that_both_have(plain):
    """One metric about the day itself, one about later days, one that only the first has."""
    entities, fold_in = parts()
    days = [DAY + timedelta(days=n) for n in range(4)]
    of_a = [result("own", days[0], 0.6), result("later", days[2], 0.3), result("gone", DAY, 0.1)]
    of_b = [
        result("own", days[1], 0.7),
        result("later", days[2], 0.34, half=0.04),
        result("later", days[3], 0.2),
    ]
    a = plain.publish("author", days[0], SPACE, entities, fold_in, {}, of_a)
    b = plain.publish("author", days[1], SPACE, entities, fold_in, {}, of_b)
    later, own = plain.diff(a, b).benchmarks
    assert (later.a.on, later.b.on, later.name) == (days[2], days[2], "task_later")
    assert (own.a.on, own.b.on) == (days[0], days[1])
    assert own.value == pytest.approx(0.1)
    # The widths of two independent estimates add as the sides of a right triangle.
    assert later.interval == pytest.approx((0.04 - 0.05, 0.04 + 0.05))
