"""lookalike: group centroids over shards and profile files, against a loop over consumers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engagement_lake import FIRST, engagement_settings

from embeddings.registry.shards import open_shards, write_shard
from embeddings.registry.vectors import Vectors
from jobs.steps import lookalike

VECTORS = {f"c{i}": [float(i), 1.0, -float(i)] for i in range(60)} | {"c60": [0.0, 0.0, 0.0]}
PROFILES = {
    **{
        f"c{i}": {"degree": "full" if i % 3 else "low", "région": "nord" if i < 5 else None}
        for i in range(61)
    },
    "stranger": {"degree": "full", "région": "nord"},  # has no vector
}
del PROFILES["c1"]  # has no profile


def write_consumers(folder: Path, of: int) -> Path:
    """The consumers in this many shards."""
    ids = np.array(sorted(id_.encode() for id_ in VECTORS))
    for number in range(of):
        own = ids[number::of]
        vectors = np.array([VECTORS[id_.decode()] for id_ in own.tolist()], np.float32)
        counts = np.ones(len(own), np.int32)
        folded = np.zeros(len(own), bool)
        write_shard(folder, number, Vectors(own, vectors, counts, folded))
    return folder


def write_profiles(folder: Path, of: int) -> list[Path]:
    """The table of consumers in this many files."""
    folder.mkdir(parents=True)
    for number in range(of):
        some = list(PROFILES.items())[number::of]
        columns = {
            f"cat_{name}": pa.array([p[name] for _, p in some], pa.string())
            for name in ("degree", "région")
        }
        table = pa.table(
            {"consumer_id": [id_ for id_, _ in some], **columns, "num_age": [1.0] * len(some)}
        )
        pq.write_table(table, folder / f"part-{number:05d}.parquet")
    return sorted(folder.glob("*.parquet"))


def slow_groups(at_least: int) -> dict[str, tuple[int, list[float]]]:
    """The consumers of each group and the mean of their vectors, one by one."""
    members: dict[str, list[list[float]]] = {}
    for consumer, profile in PROFILES.items():
        for column, value in profile.items():
            if value is not None and any(VECTORS.get(consumer, [])):
                members.setdefault(f"{column}={value}", []).append(VECTORS[consumer])
    return {
        group: (len(rows), [sum(column) / len(rows) for column in zip(*rows, strict=True)])
        for group, rows in sorted(members.items())
        if len(rows) >= at_least
    }


@pytest.mark.parametrize(("shards", "files", "at_least"), [(1, 1, 1), (3, 2, 1), (2, 3, 5)])
def test_centroids_are_the_means_of_a_loop(spark, tmp_path, shards, files, at_least):
    """For any split of consumers and profiles into files."""
    consumers = write_consumers(tmp_path / "consumer", shards)
    profiles = write_profiles(tmp_path / "profiles", files)
    found = lookalike.group_centroids(spark, profiles, consumers, at_least)
    expected = slow_groups(at_least)
    assert [id_.decode() for id_ in found.ids.tolist()] == list(expected)
    assert found.counts.tolist() == [size for size, _ in expected.values()]
    np.testing.assert_allclose(found.vectors, [mean for _, mean in expected.values()], rtol=1e-6)
    assert found.folded.all()


def test_groups_that_are_too_small_are_left_out(spark, tmp_path):
    consumers = write_consumers(tmp_path / "consumer", 2)
    profiles = write_profiles(tmp_path / "profiles", 2)
    assert lookalike.group_centroids(spark, profiles, consumers, min_consumers=40) is None


def commit(settings, with_profiles: bool) -> None:
    with settings.lake.writing("validate", FIRST, recipe="") as staging:
        if with_profiles:
            write_profiles(staging.path / "consumers", 2)
    with settings.lake.writing("fold_in", FIRST, recipe="") as staging:
        write_consumers(staging.path / "consumer", 2)


def test_the_step_writes_a_shard_of_groups(spark, tmp_path):
    """Groups of at least twenty consumers; a second run gives the same partition."""
    settings = engagement_settings(tmp_path)
    commit(settings, with_profiles=True)
    digests = set()
    for _ in range(2):
        lookalike.run(spark, settings, FIRST)
        digests.add(settings.lake.get("lookalike", FIRST).digest)
    assert len(digests) == 1
    partition = settings.lake.get("lookalike", FIRST)
    groups = open_shards(partition.path / "group")
    assert (
        [id_.decode() for id_ in groups.ids.tolist()]
        == list(slow_groups(20))
        == ["degree=full", "degree=low"]
    )
    assert partition.facts == {"groups": 2}


def test_without_profiles_there_are_no_groups(spark, tmp_path):
    settings = engagement_settings(tmp_path)
    commit(settings, with_profiles=False)
    lookalike.run(spark, settings, FIRST)
    partition = settings.lake.get("lookalike", FIRST)
    assert (partition.facts, (partition.path / "group").exists()) == ({"groups": 0}, False)
