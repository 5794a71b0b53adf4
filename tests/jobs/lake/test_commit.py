"""The lake's commit: beside other writers, beside readers, and after kills."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from embeddings.durable import ABANDONED_AGE_S, file_digest, sweep
from jobs.lake import Lake, Partition
from jobs.lake.contents import GRACE_S

DAY = date(2024, 3, 1)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(lake: Lake, text: str, n_files: int = 3) -> Partition:
    """A partition of some files that all hold the same text."""
    with lake.writing("land", DAY, recipe="s") as staging:
        (staging.path / "rows").mkdir()
        for number in range(n_files):
            (staging.path / "rows" / f"{number}.txt").write_text(text * 100)
        staging.facts["text"] = text
    return lake.get("land", DAY)


def is_whole(partition: Partition) -> bool:
    """Does every file that the manifest lists exist, with its digest?"""
    for name, digest in partition.files.items():
        path = partition.path / name
        if not path.exists() or file_digest(path) != digest:
            return False
    return True


def age(path: Path, seconds: float) -> None:
    """Pretend that a path was last changed so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def write_often(root: Path, name: str, times: int) -> None:
    lake = Lake(root)
    for number in range(times):
        commit(lake, f"{name} {number}")


def read_until(root: Path, stopped, reads, failures) -> None:
    lake = Lake(root)
    while not stopped.is_set():
        partition = lake.find("land", DAY)
        if partition is None:
            continue
        reads.value += 1
        failures.value += not is_whole(partition)


def test_two_writers_leave_one_whole_partition(lake):
    """Different content at the same moment, many times: the manifest names what exists."""
    for trial in range(40):
        barrier = FORK.Barrier(2)
        writers = []
        for name in "ab":
            target = write_together
            writers.append(FORK.Process(target=target, args=(lake.root, barrier, name, trial)))
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0
        assert is_whole(lake.get("land", DAY))


def write_together(root: Path, barrier, name: str, trial: int) -> None:
    barrier.wait()
    commit(Lake(root), f"{name} {trial}")


@pytest.mark.parametrize("n_writers", [1, 2])
def test_a_reader_beside_writers_never_loses_its_files(lake, n_writers):
    commit(lake, "first")
    stopped = FORK.Event()
    reads = FORK.Value("i", 0)
    failures = FORK.Value("i", 0)
    reader = FORK.Process(target=read_until, args=(lake.root, stopped, reads, failures))
    reader.start()
    writers = []
    for number in range(n_writers):
        arguments = (lake.root, f"writer {number}", 60)
        writers.append(FORK.Process(target=write_often, args=arguments))
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    stopped.set()
    reader.join()
    assert reads.value > 20
    assert failures.value == 0


def test_replaced_content_is_deleted_after_its_grace(lake):
    old = commit(lake, "old")
    new = commit(lake, "new")
    assert is_whole(old)
    age(old.path.with_name(f"{old.digest}.replaced"), GRACE_S + 60)
    commit(lake, "new")
    assert not old.path.exists()
    assert is_whole(new)


def test_content_that_returns_is_current_again(lake):
    """A, B, A: the first content is not deleted, however old its marker is."""
    first = commit(lake, "A")
    commit(lake, "B")
    age(first.path.with_name(f"{first.digest}.replaced"), GRACE_S + 60)
    again = commit(lake, "A")
    assert again == first
    commit(lake, "A")
    assert is_whole(lake.get("land", DAY))


KILLED = """
import os, shutil, signal, sys
from datetime import date
from pathlib import Path
import embeddings.storage.folder as folder
import jobs.lake.store as store

def die(*args, **kwargs):
    if "rmtree" == {moment!r}:  # half of the files are gone when it happens
        next(Path(args[0]).rglob("*.txt")).unlink()
    os.kill(os.getpid(), signal.SIGKILL)

setattr({owner}, {moment!r}, die)
lake = store.Lake(Path(sys.argv[1]))
with lake.writing("land", date(2024, 3, 1), recipe="s") as staging:
    (staging.path / "rows").mkdir()
    (staging.path / "rows" / "0.txt").write_text("killed")
"""
MOMENTS = {
    "sync_tree": "store",  # before anything is published
    "place": "folder",  # content staged, not at its place
    "write_file": "folder",  # content at its place, no manifest
    "delete_replaced": "store",  # manifest written
    "rmtree": "folder.shutil",  # while replaced content is deleted
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_a_whole_partition(lake, moment):
    """And every content that was ever committed can be committed again."""
    old = commit(lake, "old")
    commit(lake, "middle")
    age(old.path.with_name(f"{old.digest}.replaced"), GRACE_S + 60)
    code = KILLED.format(owner=MOMENTS[moment], moment=moment)
    ran = subprocess.run([sys.executable, "-c", code, str(lake.root)], capture_output=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    assert is_whole(lake.get("land", DAY))
    for text in ("old", "middle", "new"):
        assert is_whole(commit(lake, text))


def test_the_staging_of_a_killed_writer_is_swept_a_day_later(lake):
    abandoned = lake.root / "_staging" / "land-2024-03-01-abandoned"
    abandoned.mkdir(parents=True)
    (abandoned / "rows.txt").write_text("never committed")
    commit(lake, "fresh")
    assert abandoned.exists()
    age(abandoned, ABANDONED_AGE_S + 60)
    commit(lake, "next")
    assert not abandoned.exists()


def test_the_draft_of_a_killed_download_is_swept_a_day_later(tmp_path):
    old, young = tmp_path / "old", tmp_path / "young"
    old.touch()
    young.touch()
    age(old, ABANDONED_AGE_S + 60)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [young]
