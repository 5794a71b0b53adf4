"""Removal: only what no alias names, the row before the files, and never under a reader."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from registry_parts import DAY, parts, publish, remove_and_die

from embeddings.registry import versions
from embeddings.registry.client import Registry
from embeddings.registry.errors import BadRequest, DamagedVersion, PinnedVersion, UnknownVersion
from embeddings.registry.versions import removable

HOUR_S = 3600


def test_a_removed_version_is_gone_with_its_files(registry):
    old = publish(registry, seed=1)
    new = publish(registry, seed=2)
    registry.remove(old)
    assert registry.versions("author") == [new]
    assert not old.path.exists()
    assert list((registry.root / "versions" / "_staging").iterdir()) == []
    with pytest.raises(UnknownVersion, match=r"no version '2022-04-25\.r1'"):
        registry.remove(old)


def test_what_an_alias_names_is_not_removed(registry):
    old = publish(registry, seed=1)
    new = publish(registry, seed=2)
    registry.set_alias("author", "serving", old)
    message = r"r1 cannot be removed: 'serving' of 'author' points at it\. Move or delete the alias"
    with pytest.raises(PinnedVersion, match=message):
        registry.remove(old)
    with pytest.raises(PinnedVersion, match=r"the alias 'latest' points at it\. It moves when"):
        registry.remove(new)
    registry.verify(old)
    registry.delete_alias("author", "serving")
    registry.remove(old)


def test_the_day_means_its_previous_version_after_its_current_one_is_removed(plain):
    first = publish(plain, seed=1)
    second = publish(plain, seed=2)
    publish(plain, DAY + timedelta(days=1))
    plain.remove(second)
    assert plain.version("author", DAY) == first


def test_a_revision_number_is_not_used_again(registry):
    """Neither for other content nor for the same: it stays in logs and lineages."""
    removed = publish(registry, seed=1)
    publish(registry, seed=2)
    last = publish(registry, seed=3)
    publish(registry, DAY + timedelta(days=1))
    registry.remove(removed)
    registry.remove(last)
    assert publish(registry, seed=4).revision == 4
    assert publish(registry, seed=3).revision == 5


def test_the_history_outlives_the_versions(registry):
    publish(registry, seed=1)
    publish(registry, seed=2)
    registry.remove(registry.find("author", "2022-04-25.r1"))
    targets = [move.to_version for move in registry.history("author", "latest")]
    assert targets == ["author/2022-04-25.r2", "author/2022-04-25.r1"]


def test_a_reader_keeps_what_it_has_opened(plain):
    version = publish(plain, seed=1)
    loaded = plain.load(version)
    publish(plain, seed=2)
    plain.remove(version)
    expected = parts(seed=1)[0]["producer"].vectors
    np.testing.assert_array_equal(loaded.entities["producer"].vectors, expected)
    with pytest.raises(DamagedVersion, match="If the version was removed, use another one"):
        plain.load(version)


def test_killed_between_row_and_files_leaves_an_orphan_that_is_swept(processes, plain, root):
    old = publish(plain, seed=1)
    publish(plain, seed=2)
    process = processes.Process(target=remove_and_die, args=(root, plain.catalog.url, old))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert [version.revision for version in plain.versions("author")] == [2]
    assert old.path.exists()
    assert plain.sweep_orphans(HOUR_S) == []  # it is young: a publisher may be about to record it
    age(old.path, 2 * HOUR_S)
    assert plain.sweep_orphans(HOUR_S) == [old.path]
    assert not old.path.exists()


def test_only_orphans_are_swept(plain, root):
    """Recorded versions stay, however old, and so does what is not ours."""
    version = publish(plain)
    notes = version.path.parent / "notes"
    notes.mkdir()
    for folder in (version.path, notes):
        age(folder, 2 * HOUR_S)
    assert plain.sweep_orphans(HOUR_S) == []
    plain.verify(version)
    assert notes.exists()


def test_a_sweep_keeps_what_a_publisher_is_about_to_record(plain):
    """The content is an old orphan; its publisher has accepted it and waits for the catalog."""
    orphan = publish(plain, seed=1)
    publish(plain, seed=2)
    with plain.catalog.writing() as session:
        versions.remove(session, orphan)
    age(orphan.path, 2 * HOUR_S)
    swept: list = []
    with plain.catalog.writing():
        publisher = threading.Thread(target=lambda: publish(plain, seed=1))
        publisher.start()
        wait_until_held(orphan.path.parents[1] / ".lock")
        sweeper = threading.Thread(target=lambda: swept.extend(plain.sweep_orphans(HOUR_S)))
        sweeper.start()
        sweeper.join(0.2)  # it finds the orphan, and waits for the publisher
        assert sweeper.is_alive()
    publisher.join(30)
    sweeper.join(30)
    assert swept == []
    plain.verify(plain.version("author", DAY))
    assert plain.version("author", DAY).digest == orphan.digest


R = "author/2022-04-{}.r{}".format
TABLE = [
    # keep_days, keep, what may be removed of 25.r1, 25.r2, 26.r2, 26.r1, 27.r1 (the last is latest)
    (1, set(), [R(25, 1), R(25, 2), R(26, 2), R(26, 1)]),
    (2, set(), [R(25, 1), R(25, 2), R(26, 2)]),
    (3, set(), [R(25, 1), R(26, 2)]),
    (99, set(), [R(25, 1), R(26, 2)]),
    (0, set(), [R(25, 1), R(25, 2), R(26, 2), R(26, 1)]),
    (1, {R(25, 1), R(26, 2)}, [R(25, 2), R(26, 1)]),
    (1, {R(24, 1)}, [R(25, 1), R(25, 2), R(26, 2), R(26, 1)]),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The versions and aliases of three days: one corrected, one corrected and corrected back."""
    root = tmp_path_factory.mktemp("registry")
    with Registry(root, f"sqlite:///{root / 'catalog.db'}") as registry:
        for day, seeds in ((0, [1, 2]), (1, [1, 2, 1]), (2, [1])):
            for seed in seeds:
                publish(registry, DAY + timedelta(days=day), seed)
        return registry.versions("author"), registry.aliases("author")


@pytest.mark.parametrize(("keep_days", "keep", "expected"), TABLE)
def test_removable_keeps_current_revisions_of_new_days_and_what_is_named(
    published, keep_days, keep, expected
):
    existing, aliases = published
    assert [one.id for one in removable(existing, aliases, keep_days, keep)] == expected


def test_removable_keeps_what_an_alias_names(published):
    existing, aliases = published
    pinned = {**aliases, "pinned": existing[0]}
    assert existing[0] not in removable(existing, pinned, 1)


def test_everything_removable_can_be_removed(plain):
    for day in range(3):
        publish(plain, DAY + timedelta(days=day))
    for version in removable(plain.versions("author"), plain.aliases("author"), keep_days=0):
        plain.remove(version)
    assert plain.versions("author") == [plain.version("author")]


def test_a_negative_number_of_days_is_refused():
    with pytest.raises(BadRequest, match="keep_days must be at least 0, not -1"):
        removable([], {}, -1)


def wait_until_held(path: Path) -> None:
    """Wait until another thread holds a lock."""
    deadline = time.monotonic() + 30
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert time.monotonic() < deadline, "nobody took the lock within 30 s"
            time.sleep(0.005)


def age(folder: Path, seconds: float) -> None:
    """Make a folder look as if it had been filled that long ago."""
    then = time.time() - seconds
    os.utime(folder, (then, then))
