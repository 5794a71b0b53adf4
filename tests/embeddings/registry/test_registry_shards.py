"""An entity in several shards is read as if it were in one, and published as its writers left it."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_parts import DAY, SPACE, parts, vectors

from embeddings.registry.client import Vectors
from embeddings.registry.errors import BadVersion, DamagedVersion
from embeddings.registry.search import cosine_top_k
from embeddings.registry.shards import as_entity, open_shards, write_shard
from models.features import gather

IDS = st.lists(st.text("abé", min_size=1, max_size=5), min_size=1, max_size=40, unique=True)


def cut(whole: Vectors, of: list[int]) -> list[Vectors]:
    """The vectors shared out: row i goes to shard of[i]; some of three may stay empty."""
    masks = [np.array(of) == number for number in range(3)]
    return [
        Vectors(whole.ids[m], whole.vectors[m], whole.counts[m], whole.folded[m]) for m in masks
    ]


@st.composite
def sharded(draw) -> tuple[Vectors, list[Vectors]]:
    """All vectors of an entity, and the same in three shards."""
    whole = vectors(draw(IDS), dim=2, seed=draw(st.integers(0, 9)))
    return whole, cut(whole, [draw(st.integers(0, 2)) for _ in whole.ids])


@given(sharded(), st.lists(st.text("abé", min_size=1, max_size=6), max_size=9))
def test_rows_across_shards_agree_with_a_loop(both, others):
    shards = both[1]
    entity = as_entity(shards)
    every = [id_.decode() for shard in shards for id_ in shard.ids.tolist()]
    wanted = [*every[::-2], *others]
    assert entity.rows(wanted).tolist() == [
        every.index(id_) if id_ in every else -1 for id_ in wanted
    ]


@given(sharded(), st.data())
def test_rows_are_gathered_from_their_shards(both, data):
    """By row numbers, however often, by mask and by slice: as NumPy does with all of it in one array."""
    entity = as_entity(both[1])
    numbers = st.lists(st.integers(0, len(entity) - 1), max_size=20)
    mask = data.draw(st.lists(st.booleans(), min_size=len(entity), max_size=len(entity)))
    for chosen in (np.array(data.draw(numbers), int), np.array(mask), slice(1, None, 2)):
        for field in ("ids", "vectors", "counts", "folded"):
            whole = np.concatenate([getattr(shard, field) for shard in entity.shards])
            found = getattr(entity, field)[chosen]
            np.testing.assert_array_equal(found, whole[chosen])
            assert found.dtype == whole.dtype


def test_a_row_that_is_not_there_is_an_error():
    entity = as_entity(cut(vectors(["a", "b", "c"]), [0, 1, 1]))
    for row in (-1, 3):
        with pytest.raises(IndexError, match="there are 0 to 2"):
            entity.vectors[np.array([row])]


@given(sharded(), st.integers(1, 45), st.data())
def test_the_nearest_across_shards_are_those_of_one(both, k, data):
    entity, query = as_entity(both[1]), np.array([1, 2], np.float32)
    leave_out = data.draw(st.integers(-1, len(entity) - 1))
    found = cosine_top_k(entity.vectors, entity.norms, query, k, leave_out)
    expected = cosine_top_k(
        np.asarray(entity.vectors), np.asarray(entity.norms), query, k, leave_out
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@given(sharded())
def test_near_misses_do_not_depend_on_the_shards(both):
    whole, shards = both
    assert as_entity(shards).near("abba") == as_entity([whole]).near("abba")


@pytest.fixture
def consumers(tmp_path) -> Path:
    """A folder of three shards of nine consumers, as three writers left it."""
    for number, shard in enumerate(cut(parts()[0]["consumer"], [0, 1, 2, 1, 1, 0, 2, 2, 0])):
        write_shard(tmp_path / "consumer", number, shard)
    return tmp_path / "consumer"


def publish_folder(registry, folder: Path):
    entities, fold_in = parts()
    return registry.publish("author", DAY, SPACE, {**entities, "consumer": folder}, fold_in, {})


def test_a_published_folder_holds_the_same_vectors(registry, consumers):
    version = publish_folder(registry, consumers)
    expected = parts()[0]["consumer"]
    found = registry.get("author", "consumer", [id_.decode() for id_ in expected.ids.tolist()])
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.folded, expected.folded)
    assert version.entities["consumer"] == {
        "rows": 9,
        "folded": 3,
        "engagements": int(expected.counts.sum()),
    }
    assert registry.verify(version)


def test_neighbours_across_shards_are_those_of_one(plain, consumers):
    entities, fold_in = parts()
    plain.publish("whole", DAY, SPACE, entities, fold_in, {})
    publish_folder(plain, consumers)
    whole, sharded = (plain.neighbours(name, "consumer:c4", 4) for name in ("whole", "author"))
    assert sharded == whole


def test_the_same_shards_are_the_same_version(plain, consumers, tmp_path):
    shutil.copytree(consumers, tmp_path / "copy")
    assert publish_folder(plain, consumers) == publish_folder(plain, tmp_path / "copy")
    assert len(plain.versions("author")) == 1


def test_one_shard_is_the_same_version_as_its_vectors(plain, tmp_path):
    entities, fold_in = parts()
    write_shard(tmp_path / "consumer", 0, entities["consumer"])
    version = publish_folder(plain, tmp_path / "consumer")
    assert plain.publish("author", DAY, SPACE, entities, fold_in, {}) == version


def test_shards_are_linked_where_they_can_be(plain, consumers):
    version = publish_folder(plain, consumers)
    for path in consumers.rglob("*.npy"):
        assert path.samefile(version.path / "consumer" / path.relative_to(consumers))


def test_shards_are_copied_from_another_file_system(plain, consumers):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or os.stat(elsewhere).st_dev == os.stat(plain.root).st_dev:
        pytest.skip("there is no second file system to publish from")
    far = elsewhere / f"evergreen-{uuid.uuid4().hex}"
    try:
        shutil.copytree(consumers, far)
        assert publish_folder(plain, far) == publish_folder(plain, consumers)
    finally:
        shutil.rmtree(far)


def test_a_damaged_shard_is_named(plain, consumers):
    version = publish_folder(plain, consumers)
    path = version.path / "consumer" / "shard-00001" / "counts.npy"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(
        DamagedVersion, match=r"consumer/shard-00001/counts\.npy \(changed\)\. Restore"
    ):
        plain.verify(version)


def test_an_empty_shard_is_fine(plain, consumers):
    nobody = cut(parts()[0]["consumer"], [0] * 9)[1]
    write_shard(consumers, 3, nobody)
    assert publish_folder(plain, consumers).entities["consumer"]["rows"] == 9
    assert plain.neighbours("author", "consumer:c0", 2, among="consumer")


def test_an_id_in_two_shards_is_refused_and_named(plain, consumers):
    write_shard(consumers, 3, cut(parts()[0]["consumer"], [0, 0, 0, 0, 1, 0, 0, 0, 0])[1])
    with pytest.raises(BadVersion, match="one shard only; 'c4' is in two"):
        publish_folder(plain, consumers)
    assert plain.names() == []


def test_a_folder_without_shards_is_refused(plain, tmp_path):
    with pytest.raises(
        BadVersion, match=r"nobody holds no shards; write them there with .*write_shard"
    ):
        publish_folder(plain, tmp_path / "nobody")


def test_an_entity_of_nobody_is_refused(plain, tmp_path):
    write_shard(tmp_path / "consumer", 0, cut(parts()[0]["consumer"], [0] * 9)[1])
    with pytest.raises(BadVersion, match="consumer has no rows"):
        publish_folder(plain, tmp_path / "consumer")


@pytest.mark.parametrize(
    ("field", "stored", "message"),
    [
        ("ids", lambda a: a.astype("S99"), r"shard-00001\.ids is stored as \|S99, not as \|S2"),
        ("ids", lambda a: a[::-1], r"shard-00001\.ids must be sorted"),
        (
            "vectors",
            lambda a: a.astype(np.float64),
            r"shard-00001\.vectors is stored as float64, not as float32",
        ),
        (
            "vectors",
            lambda a: a[:, :2].copy(),
            r"shard-00001\.vectors must be float32 of shape \(3, 3\)",
        ),
        ("counts", lambda a: a[:2], r"shard-00001\.counts must be int32 of shape \(3,\)"),
    ],
)
def test_a_shard_written_otherwise_is_refused_and_named(plain, consumers, field, stored, message):
    path = consumers / "shard-00001" / f"{field}.npy"
    np.save(path, stored(np.load(path)))
    with pytest.raises(BadVersion, match=message):
        publish_folder(plain, consumers)


def test_a_shard_cut_short_is_refused(plain, consumers):
    path = consumers / "shard-00002" / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadVersion, match=r"A shard of .*consumer cannot be read"):
        publish_folder(plain, consumers)


def test_a_writer_hears_at_once_what_is_wrong(tmp_path):
    broken = parts()[0]["consumer"]
    with pytest.raises(BadVersion, match=r"shard-00000\.ids must be sorted"):
        write_shard(tmp_path, 0, replace(broken, ids=broken.ids[::-1]))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_shards_can_be_opened_before_it_is_published(consumers):
    expected = parts()[0]["consumer"]
    entity = open_shards(consumers)
    np.testing.assert_array_equal(entity.vectors[entity.rows(expected.ids)], expected.vectors)


@given(sharded(), st.data())
def test_a_ranker_gathers_across_shards_as_from_one_array(both, data):
    """Row numbers that examples keep: -1 is nobody, and has zeros."""
    entity = as_entity(both[1])
    rows = np.array(data.draw(st.lists(st.integers(-1, len(entity) - 1), max_size=20)), int)
    np.testing.assert_array_equal(
        gather(entity.vectors, rows), gather(np.asarray(entity.vectors), rows)
    )
