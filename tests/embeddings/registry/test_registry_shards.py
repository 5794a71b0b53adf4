"""An entity in several shards is read like one in a single shard, and published unchanged."""

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
from embeddings.registry.vectors import FIELDS
from models.features import gather

IDS = st.lists(st.text("abé", min_size=1, max_size=5), min_size=1, max_size=40, unique=True)


def cut(vectors: Vectors, shard_of: list[int]) -> list[Vectors]:
    """The vectors in three shards, of which some may be empty: row i is in shard shard_of[i]."""
    shards = []
    for number in range(3):
        rows = np.array(shard_of) == number
        shards.append(Vectors(*(getattr(vectors, field)[rows] for field in FIELDS)))
    return shards


@st.composite
def sharded(draw) -> tuple[Vectors, list[Vectors]]:
    """All vectors of an entity in one array, and the same vectors in three shards."""
    whole = vectors(draw(IDS), dim=2, seed=draw(st.integers(0, 9)))
    n = len(whole.ids)
    shard_of = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return whole, cut(whole, shard_of)


@given(sharded(), st.lists(st.text("abé", min_size=1, max_size=6), max_size=9))
def test_rows_across_shards_agree_with_a_loop(both, others):
    _, shards = both
    row_of: dict[str, int] = {}
    for shard in shards:
        for encoded in shard.ids.tolist():
            row_of[encoded.decode()] = len(row_of)
    wanted = [*list(row_of)[::-2], *others]
    expected = [row_of.get(id_, -1) for id_ in wanted]
    assert as_entity(shards).rows(wanted).tolist() == expected


@given(sharded(), st.data())
def test_rows_are_gathered_from_their_shards(both, data):
    """By row numbers, also repeated ones, by mask and by slice: as from one NumPy array."""
    entity = as_entity(both[1])
    numbers = st.lists(st.integers(0, len(entity) - 1), max_size=20)
    mask = data.draw(st.lists(st.booleans(), min_size=len(entity), max_size=len(entity)))
    for chosen in (np.array(data.draw(numbers), int), np.array(mask), slice(1, None, 2)):
        for field in FIELDS:
            whole = np.concatenate([getattr(shard, field) for shard in entity.shards])
            gathered = getattr(entity, field)[chosen]
            np.testing.assert_array_equal(gathered, whole[chosen])
            assert gathered.dtype == whole.dtype


def test_a_row_out_of_range_is_an_error():
    entity = as_entity(cut(vectors(["a", "b", "c"]), [0, 1, 1]))
    for row in (-1, 3):
        with pytest.raises(IndexError, match="the array has rows 0 to 2"):
            entity.vectors[np.array([row])]


@given(sharded(), st.integers(1, 45), st.data())
def test_the_nearest_across_shards_are_those_of_one_array(both, k, data):
    entity = as_entity(both[1])
    query = np.array([1, 2], np.float32)
    leave_out = data.draw(st.integers(-1, len(entity) - 1))
    rows, scores = cosine_top_k(entity.vectors, entity.norms(2), query, k, leave_out)
    vectors = np.asarray(entity.vectors)
    norms = np.asarray(entity.norms(2))
    expected_rows, expected_scores = cosine_top_k(vectors, norms, query, k, leave_out)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@given(sharded())
def test_near_misses_do_not_depend_on_the_shards(both):
    whole, shards = both
    assert as_entity(shards).near("abba") == as_entity([whole]).near("abba")


@pytest.fixture
def consumers(tmp_path) -> Path:
    """A folder with nine consumers in three shards."""
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


def test_neighbours_across_shards_are_those_of_one_shard(plain, consumers):
    entities, fold_in = parts()
    plain.publish("whole", DAY, SPACE, entities, fold_in, {})
    publish_folder(plain, consumers)
    across_shards = plain.neighbours("author", "consumer:c4", 4)
    assert across_shards == plain.neighbours("whole", "consumer:c4", 4)


def test_the_same_shards_are_the_same_version(plain, consumers, tmp_path):
    shutil.copytree(consumers, tmp_path / "copy")
    assert publish_folder(plain, consumers) == publish_folder(plain, tmp_path / "copy")
    assert len(plain.versions("author")) == 1


def test_one_shard_is_the_same_version_as_its_vectors(plain, tmp_path):
    entities, fold_in = parts()
    write_shard(tmp_path / "consumer", 0, entities["consumer"])
    version = publish_folder(plain, tmp_path / "consumer")
    assert plain.publish("author", DAY, SPACE, entities, fold_in, {}) == version


def test_shards_are_hard_linked_within_a_file_system(plain, consumers):
    version = publish_folder(plain, consumers)
    for path in consumers.rglob("*.npy"):
        assert path.samefile(version.path / "consumer" / path.relative_to(consumers))


def test_shards_are_copied_from_another_file_system(plain, consumers):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or os.stat(elsewhere).st_dev == os.stat(plain.root).st_dev:
        pytest.skip("the machine has no second file system to publish from")
    copy = elsewhere / f"evergreen-{uuid.uuid4().hex}"
    try:
        shutil.copytree(consumers, copy)
        assert publish_folder(plain, copy) == publish_folder(plain, consumers)
    finally:
        shutil.rmtree(copy)


def test_a_damaged_shard_is_named(plain, consumers):
    version = publish_folder(plain, consumers)
    path = version.path / "consumer" / "shard-00001" / "counts.npy"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    message = r"consumer/shard-00001/counts\.npy \(changed\)\. Publish"
    with pytest.raises(DamagedVersion, match=message):
        plain.verify(version)


def test_a_shard_may_be_empty(plain, consumers):
    expected = publish_folder(plain, consumers)
    neighbours = plain.neighbours("author", "consumer:c0", 2)
    empty = cut(parts()[0]["consumer"], [0] * 9)[1]
    write_shard(consumers, 3, empty)
    assert publish_folder(plain, consumers).entities == expected.entities
    assert plain.neighbours("author", "consumer:c0", 2, revision=2, day=DAY) == neighbours


def test_an_id_in_two_shards_is_rejected_and_named(plain, consumers):
    write_shard(consumers, 3, cut(parts()[0]["consumer"], [0, 0, 0, 0, 1, 0, 0, 0, 0])[1])
    with pytest.raises(BadVersion, match="only one shard; 'c4' is in two"):
        publish_folder(plain, consumers)
    assert plain.names() == []


def test_a_folder_without_shards_is_rejected(plain, tmp_path):
    with pytest.raises(BadVersion, match=r"empty holds no shards; write them with .*write_shard"):
        publish_folder(plain, tmp_path / "empty")


def test_an_entity_without_rows_is_rejected(plain, tmp_path):
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
def test_a_shard_with_other_types_is_rejected_and_named(plain, consumers, field, stored, message):
    path = consumers / "shard-00001" / f"{field}.npy"
    np.save(path, stored(np.load(path)))
    with pytest.raises(BadVersion, match=message):
        publish_folder(plain, consumers)


def test_a_faulty_shard_is_named_although_an_earlier_number_is_missing(plain, consumers):
    (consumers / "shard-00001").rename(consumers / "shard-00007")
    path = consumers / "shard-00007" / "counts.npy"
    np.save(path, np.load(path)[:2])
    with pytest.raises(BadVersion, match=r"consumer/shard-00007\.counts must be int32"):
        publish_folder(plain, consumers)


def test_a_truncated_shard_is_rejected(plain, consumers):
    path = consumers / "shard-00002" / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadVersion, match=r"A shard of .*consumer cannot be read"):
        publish_folder(plain, consumers)


def test_write_shard_rejects_invalid_vectors_at_once(tmp_path):
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
    """Examples keep row numbers; -1 stands for an unknown id, whose vector is zero."""
    entity = as_entity(both[1])
    rows = np.array(data.draw(st.lists(st.integers(-1, len(entity) - 1), max_size=20)), int)
    expected = gather(np.asarray(entity.vectors), rows)
    np.testing.assert_array_equal(gather(entity.vectors, rows), expected)
