"""One suite for every place of lake and registry: a folder, and buckets of two real S3 servers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from embeddings.durable import sync_tree
from embeddings.registry.client import Registry
from embeddings.registry.errors import DamagedVersion
from embeddings.storage.folder import Folder
from embeddings.storage.place import Place
from jobs.errors import DamagedPartition
from jobs.lake import Lake, Partition
from tests.embeddings.registry.registry_parts import publish
from tests.object_store import harm, place_of

DAY = date(2024, 3, 1)
ODD = ("rows/part 0=1+2%20.txt", "zwölf/日本 [x]{a}.txt", "empty")


@pytest.fixture(params=["folder", "seaweedfs", pytest.param("moto", marks=pytest.mark.slow)])
def place(request, tmp_path, store_servers) -> Place:
    if request.param == "folder":
        return Folder(tmp_path / "home" / "lake")
    return place_of(store_servers(request.param), tmp_path / "home")


@pytest.fixture
def lake(place) -> Lake:
    return Lake(place)


def commit(lake: Lake, text: str, day: date = DAY) -> Partition:
    with lake.writing("land", day, recipe="r") as staging:
        (staging.path / "rows").mkdir()
        (staging.path / "rows" / "0.txt").write_text(text)
        (staging.path / "rows" / "1.txt").write_text("the same in all")
    return lake.get("land", day)


def text_of(partition: Partition) -> str:
    return (partition.path / "rows" / "0.txt").read_text()


# Files


def test_a_file_is_read_as_it_was_written(place):
    file = place.root / "land" / "day=2024-03-01" / "marker"
    with pytest.raises(FileNotFoundError):
        place.read(file)
    place.write(file, b"one")
    data, tag = place.read(file)
    assert (data, place.tag(file)) == (b"one", tag)
    assert 0 <= place.age_s(file) + 2 < 60
    place.write(file, b"two")
    assert place.tag(file) != tag
    place.remove(file)
    place.remove(file)
    assert place.age_s(file) is None
    with pytest.raises(FileNotFoundError):
        place.tag(file)


def test_of_eight_that_have_seen_the_same_exactly_one_writes(place):
    """Round after round; the first has seen no file."""
    file = place.root / "land" / "day=2024-03-01" / "_manifest.json"
    lock = file.with_name(".lock")
    seen = None

    def write(number: int) -> bool:
        with (
            place.locked(lock)
            if isinstance(place, Folder)
            else place.locked(
                lock.with_name(f".lock-{number}")  # each holds another one: only the tag decides
            )
        ):
            return place.replace(file, f"{round_}: {number}".encode(), seen)

    for round_ in range(3):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert sum(won) == 1
        data, seen = place.read(file)
        assert data == f"{round_}: {won.index(True)}".encode()


def test_a_folder_lists_what_has_a_file(place):
    for day in ("day=2024-03-02", "day=2024-03-01"):
        place.write(place.root / "land" / day / "_manifest.json", b"x")
    place.write(place.root / "land" / "day=2024-03-03" / "other", b"x")
    days = [f"day=2024-03-0{n}" for n in (1, 2, 3)]
    assert place.folders(place.root) == ["land"]
    assert place.folders(place.root / "land") == days
    assert place.holders(place.root / "land", "_manifest.json") == days[:2]
    assert place.folders(place.root / "nothing") == []
    place.clear(place.root / "land" / "day=2024-03-02")
    assert place.holders(place.root / "land", "_manifest.json") == days[:1]


# Contents


def staged(place: Place, texts: dict[str, str]) -> Path:
    staging = place.root / "_staging" / "test"
    for name, text in texts.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_text(text)
    sync_tree(staging)
    return staging


def test_a_content_has_any_names(place):
    home = place.root / "land" / "day=2024-03-01" / "0123"
    texts = dict(zip(ODD, ("a", "bb", ""), strict=True))
    assert not place.holds(home)
    place.put(staged(place, texts), home)
    assert place.holds(home)
    assert place.contents(home.parent) == ["0123"]
    assert place.size_bytes(home) == 3
    tags = place.tags(home, [*ODD, "missing"])
    assert tags.keys() == set(ODD)
    digests = {name: place.digest(home, name) for name in ODD}
    path = place.fetched(home, digests)
    assert {name: (path / name).read_text() for name in ODD} == texts
    place.discard(home)
    assert not place.holds(home)
    assert place.size_bytes(home) == 0


# One at a time


def test_whoever_is_superseded_knows_it(place):
    folder = place.root / "land" / "day=2024-03-01"
    messages: list[str] = []
    with place.hold(folder, folder / ".lock", 60.0, messages.append) as first:
        assert first.kept()
        with place.hold(folder, folder / ".lock", 0.2, messages.append) as second:
            assert second.kept()
            assert not first.kept()
    assert len(messages) >= 2, "it waited, and then it did not"
    with place.hold(folder, folder / ".lock", 60.0, messages.append) as third:
        assert third.kept()
        assert not second.kept()


# The lake


def test_the_last_commit_is_what_is_read(lake):
    first = commit(lake, "one")
    second = commit(lake, "two")
    assert text_of(first) == "one", "a reader that found it goes on"
    assert text_of(second) == "two"
    assert lake.get("land", DAY) == second
    assert commit(lake, "one").digest == first.digest
    assert (lake.steps(), lake.days("land")) == (["land"], [DAY])
    assert list(lake.days_before("land", date(2024, 3, 2))) == [DAY]
    assert list(lake.days_before("land", DAY)) == []


@pytest.mark.parametrize("data", [b"othe", b"", None])
def test_damage_is_found_and_repaired(lake, data):
    partition = commit(lake, "text")
    harm(lake.place, partition.folder, "rows/0.txt", data)
    with pytest.raises(DamagedPartition, match="rows/0.txt"):
        lake.get("land", DAY)
    assert text_of(commit(lake, "text")) == "text"


def test_a_damaged_manifest_is_as_good_as_none(lake):
    home = commit(lake, "text").home
    lake.place.write(home / "_manifest.json", b'{"digest": "half')
    assert lake.find("land", DAY) is None
    assert text_of(commit(lake, "text")) == "text"


def test_nothing_is_left_of_a_removed_partition(lake):
    lake.remove(commit(lake, "text"))
    assert lake.find("land", DAY) is None
    assert lake.days("land") == []
    assert lake.place.contents(lake.home("land", DAY)) == []


def test_a_look_does_not_see_what_is_committed_later(lake):
    """In a bucket, which it asks once; a folder is asked each time."""
    first = commit(lake, "one")
    look = Lake(lake.place.looking())
    assert look.find("land", DAY) == first
    second = commit(lake, "two", day=DAY + timedelta(days=1))
    assert look.find("land", second.day) == (None if lake.place.shared else second)
    assert lake.find("land", second.day) == second


# The registry


@pytest.fixture
def registry(place, tmp_path):
    with Registry(tmp_path, f"sqlite:///{tmp_path / 'catalog.db'}", place) as opened:
        yield opened


def test_a_version_is_published_and_read(registry):
    version = publish(registry)
    vectors = registry.get(version.name, "producer", ["p1"]).vectors
    assert np.isfinite(vectors).all()
    assert registry.verify(version)
    assert publish(registry).revision == version.revision


def test_a_damaged_version_is_found_and_published_again(registry):
    version = publish(registry)
    name = "producer/shard-00000/vectors.npy"
    harm(registry.place, version.folder, name, b"nothing")
    with pytest.raises(DamagedVersion, match="vectors.npy"):
        registry.verify(version)
    publish(registry)
    assert registry.verify(version)


def test_files_of_removed_versions_and_of_no_version_go(registry):
    version = publish(registry)
    orphan = version.folder.with_name("0" * 64)
    registry.place.put(staged(registry.place, {"manifest.json": "{}"}), orphan)
    assert registry.sweep_orphans(older_than_s=3600) == []
    assert registry.sweep_orphans(older_than_s=-3600) == [orphan]
    assert registry.place.holds(version.folder)
    newer = publish(registry, seed=1)
    registry.remove(version)
    assert not registry.place.holds(version.folder)
    assert registry.place.holds(newer.folder)
