"""What only a bucket has: a bounded local copy, leases, a probe, and a server that may be gone."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from embeddings.registry.client import Registry
from embeddings.storage import lease
from embeddings.storage.bucket import Bucket
from embeddings.storage.copies import Copies
from embeddings.storage.objects import StoreError, UnsafeStore
from embeddings.storage.place import Place
from jobs.errors import DamagedPartition
from jobs.lake import Lake
from tests.embeddings.registry.registry_parts import publish
from tests.object_store import Server, harm, place_of, serving

DAY = date(2024, 3, 1)
MB = 1_000_000


@pytest.fixture
def server(store_servers) -> Server:
    return store_servers("seaweedfs")


@pytest.fixture
def place(server, tmp_path) -> Bucket:
    return place_of(server, tmp_path / "here")


@pytest.fixture
def elsewhere(server, tmp_path) -> Bucket:
    """The same place, as another machine sees it."""
    return place_of(server, tmp_path / "there")


def commit(place: Place, text: str, step: str = "land"):
    with Lake(place).writing(step, DAY, recipe="r") as staging:
        (staging.path / "text").write_text(text)
    return Lake(place).get(step, DAY)


# The local copy


def test_another_machine_copies_what_it_reads_and_nothing_else(place, elsewhere):
    commit(place, "read")
    commit(place, "judged", step="matrix")
    found = Lake(elsewhere).get("land", DAY)
    assert Lake(elsewhere).get("matrix", DAY).files
    assert (found.path / "text").read_text() == "read"
    copied = [file.parts[-4] for file in elsewhere.root.rglob("text")]
    assert copied == ["land"]


@pytest.mark.parametrize("data", [b"read?", b"", None])
def test_a_damaged_copy_is_fetched_again(place, data):
    partition = commit(place, "read!")
    copy = partition.path / "text"
    copy.unlink() if data is None else copy.write_bytes(data)
    assert (Lake(place).get("land", DAY).path / "text").read_text() == "read!"


def test_what_is_damaged_in_the_store_never_becomes_a_copy(place, elsewhere):
    partition = commit(place, "read")
    found = Lake(elsewhere).find("land", DAY)
    harm(place, partition.folder, "text", b"reed")
    with pytest.raises(DamagedPartition, match="text has changed.*--repair"):
        _ = found.path
    assert list(elsewhere.root.rglob("text")) == []


def test_the_copies_used_longest_ago_make_room(server, tmp_path):
    """But not one that a process uses, whether it is this one or another."""
    place = place_of(server, tmp_path / "here", cache_gb=3.5e-3)
    steps = ("a", "b", "c", "d", "e")
    homes = {}
    with ExitStack() as others:
        for age, step in enumerate(steps):
            home = commit(place, step * MB, step).folder
            os.utime(home.with_name(f"{home.name}.used"), (age, age))
            homes[step] = home
            if step == "b":
                lock = others.enter_context(home.with_name(f"{home.name}.used").open("a"))
                fcntl.flock(lock, fcntl.LOCK_SH)
        there = [step for step in steps if homes[step].exists()]
        assert there == ["b", "d", "e"]
    assert (Lake(place).get("a", DAY).path / "text").read_text() == "a" * MB
    there = [step for step in steps if homes[step].exists()]
    assert "a" in there
    assert len(there) == 3


def test_vectors_stay_mapped_when_their_copy_goes(place, tmp_path):
    with Registry(tmp_path, f"sqlite:///{tmp_path / 'catalog.db'}", place) as registry:
        version = publish(registry)
        loaded = registry.load(version)
        before = loaded.entities["producer"].vectors.copy()
        place.copies.forget(version.folder)
        assert place.copies.delete(version.folder)
        assert not version.folder.exists()
        assert (loaded.entities["producer"].vectors == before).all()
        again = registry.load(version)  # copied once more
        assert (again.entities["producer"].vectors == before).all()


def test_a_place_releases_its_own_copies_only(tmp_path):
    copies = Copies(tmp_path, most_bytes=0)
    homes = [tmp_path / name / "step" / f"day={DAY}" / "content" for name in ("lake", "registry")]
    for home in homes:
        copies.use(home)
    copies.release(tmp_path / "lake")
    assert [copies.delete(home) for home in homes] == [True, False]
    copies.release(tmp_path)
    assert copies.delete(homes[1])


def test_one_look_finds_a_file_directly_below_its_root(place):
    place.write(place.root / "file", b"x")
    assert place.looking().tag(place.root / "file") == place.tag(place.root / "file")


# Leases


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.5)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "POLL_S", 0.05)


def left_by_a_dead_process(place: Bucket, lock: Path) -> None:
    holder = lease.Lease(place.objects, place.key(lock), place._holder())
    assert holder.try_to_take(None)


def test_what_a_killed_process_held_is_free_at_once_for_its_home(place, monkeypatch):
    lock = place.root / "land" / ".lock"
    left_by_a_dead_process(place, lock)
    # Of this module alone: threads of other tests may sleep meanwhile.
    clock = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda seconds: pytest.fail("it waited")
    )
    monkeypatch.setattr(lease, "time", clock)
    with place.locked(lock):
        pass


def test_on_another_machine_it_is_free_after_the_lease(place, elsewhere, quick):
    left_by_a_dead_process(place, place.root / "land" / ".lock")
    started = lease.time.monotonic()
    with elsewhere.locked(elsewhere.root / "land" / ".lock"):
        assert lease.time.monotonic() - started > lease.LEASE_S


def test_a_living_holder_keeps_its_lease(place, elsewhere, quick):
    """For longer than a silent one would."""
    folder = Path("land")
    started = lease.time.monotonic()
    with (
        place.hold(place.root / folder, place.root / ".lock", 60, print) as first,
        elsewhere.hold(elsewhere.root / folder, elsewhere.root / ".lock", 1.2, print),
    ):
        assert not first.kept()  # at last, because its patience ended
        assert lease.time.monotonic() - started > 1.2


# The store


def test_a_store_that_ignores_conditions_is_refused(tmp_path, store_servers):
    """It replaces an object that was written to since it was read."""
    message = "replaces an object that was written to since.*SeaweedFS"
    with pytest.raises(UnsafeStore, match=message):
        place_of(store_servers("localbucket"), tmp_path / "home")


def test_a_bucket_that_does_not_exist_is_named(server):
    objects = type(server.objects())("s3://missing-bucket/home", server.endpoint, unsigned=True)
    with pytest.raises(StoreError, match="missing-bucket"):
        objects.require_conditions()


def test_a_fork_is_told_to_start_anew(place):
    """The client's threads do not survive a fork, in which it would wait forever."""
    place.write(place.root / "file", b"x")
    child = os.fork()
    if child == 0:
        try:
            place.read(place.root / "file")
        except StoreError as error:
            os._exit(7 if "was forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.slow
def test_a_server_that_dies_before_the_manifest_leaves_nothing_visible(tmp_path, monkeypatch):
    """And the next run commits, when it is back."""
    monkeypatch.setattr("embeddings.storage.objects.RETRIES", {"max_retries": 1})
    with serving("seaweedfs", tmp_path / "store") as server:
        place = place_of(server, tmp_path / "home")
        before = commit(place, "before")
        put = Bucket.put

        def put_and_die(self, staging: Path, home: Path) -> None:
            put(self, staging, home)
            server.kill()

        with monkeypatch.context() as patched:
            patched.setattr(Bucket, "put", put_and_die)
            with pytest.raises(StoreError, match="Is the server running"):
                commit(place, "after")
        server.start()
        assert Lake(place).get("land", DAY) == before
        assert (commit(place, "after").path / "text").read_text() == "after"
