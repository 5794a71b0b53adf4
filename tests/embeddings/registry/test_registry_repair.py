"""Damaged files: publishing the same content again replaces them, for every process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from registry_parts import open_and_publish, parts, publish

from embeddings.registry.client import Registry
from embeddings.registry.errors import DamagedVersion

VECTORS = "consumer/shard-00000/vectors.npy"


def flip_last_bit(path: Path) -> None:
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit flipped": lambda home: flip_last_bit(home / VECTORS),
    "cut short": lambda home: (home / VECTORS).write_bytes(b""),
    "file missing": lambda home: (home / VECTORS).unlink(),
    "folder missing": lambda home: shutil.rmtree(home / "producer"),
    "folder in place of a file": lambda home: ((home / VECTORS).unlink(), (home / VECTORS).mkdir()),
    "manifest changed": lambda home: flip_last_bit(home / "manifest.json"),
    "manifest missing": lambda home: (home / "manifest.json").unlink(),
    "everything missing": shutil.rmtree,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_publishing_the_day_again_heals_it(plain, root, kind):
    version = publish(plain)
    DAMAGE[kind](version.path)
    ((found, faults),) = plain.verify_all()
    assert (found, bool(faults)) == (version.id, True)
    assert publish(plain) == version
    plain.verify(version)
    assert list(plain.verify_all()) == [(version.id, [])]
    assert list((root / "versions" / "_staging").iterdir()) == []


def test_intact_files_are_left_alone(plain):
    version = publish(plain)
    before = (version.path / VECTORS).stat().st_ino
    publish(plain)
    assert (version.path / VECTORS).stat().st_ino == before


def test_a_process_that_had_opened_the_damaged_files_reads_the_healed_ones(plain):
    version = publish(plain)
    flip_last_bit(version.path / VECTORS)
    wrong = plain.load(version).entities["consumer"].vectors
    publish(plain)
    healed = plain.load(version).entities["consumer"].vectors
    expected = parts()[0]["consumer"].vectors
    np.testing.assert_array_equal(healed, expected)
    assert not np.array_equal(wrong, expected)  # what is open stays as it was opened


def test_an_open_version_is_not_opened_again(plain):
    version = publish(plain)
    assert plain.load(version).files is plain.load(version).files


def test_two_processes_heal_at_once(processes, plain, root):
    url = plain.catalog.url
    version = publish(plain)
    flip_last_bit(version.path / VECTORS)
    barrier = processes.Barrier(2)
    running = []
    for _ in range(2):
        process = processes.Process(target=open_and_publish, args=(root, url, barrier, [0] * 5))
        process.start()
        running.append(process)
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0]
    assert plain.versions("author") == [version]
    plain.verify(version)


def test_verify_all_names_the_faults_of_each_version(registry):
    intact = publish(registry, seed=1)
    damaged = publish(registry, seed=2)
    other = publish(registry, name="topic")
    flip_last_bit(damaged.path / VECTORS)
    (other.path / VECTORS).unlink()
    assert list(registry.verify_all()) == [
        (intact.id, []),
        (damaged.id, [f"{VECTORS} (changed)"]),
        (other.id, [f"{VECTORS} (missing)"]),
    ]
    with pytest.raises(DamagedVersion, match="Publish the day again, which replaces damaged files"):
        registry.verify(damaged)


def test_a_version_removed_while_all_are_verified_is_not_damaged(plain: Registry):
    old = publish(plain, seed=1)
    new = publish(plain, seed=2)
    newest = publish(plain, seed=3)
    verifying = plain.verify_all()
    assert next(verifying) == (old.id, [])
    plain.remove(new)
    assert list(verifying) == [(newest.id, [])]
