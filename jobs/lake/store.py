"""The lake: one committed partition per step and day, visible as a whole or not at all.

    lake/<step>/day=2022-04-25/_manifest.json      the commit: facts, inputs, and a digest per file
    lake/<step>/day=2022-04-25/<digest>/...        the files that the manifest lists

A partition is written to a staging folder, moved to a folder named by the digest of its content,
and becomes visible when its manifest is replaced (`embeddings.durable`). A reader sees the old
partition or the new one, and a kill at any moment leaves only staging files, which are never read.
The same content has the same digest, so running a step twice changes nothing. Content that another
one has replaced stays for a day: a reader may have found it just before.

Steps write files below `Staging.path` and read files below `Partition.path`, in any format. Where
these folders are, and how files get there, is decided in this module only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from embeddings.durable import file_digest, locked, place, sweep, sync_tree, write_file
from jobs.errors import NotCommitted
from jobs.lake.buckets import Part, part_name, spread
from jobs.lake.parquet_footer import sort_encodings

MANIFEST = "_manifest.json"
STAGING = "_staging"
LOCK = ".lock"  # in a partition's folder: held while it is committed
REPLACED = ".replaced"  # suffix of the marker of content that the manifest no longer names
GRACE_S = 24 * 3600.0  # readers of replaced content have ended by then: no step takes a day


@dataclass(frozen=True)
class Partition:
    """A committed partition.

    facts: small results (counts, metrics). settings: digest of the settings that shaped it.
    inputs: "step/day" -> the digest of each partition that it was computed from. files: each file's
    path below `path` -> its digest.
    """

    step: str
    day: date
    path: Path
    digest: str
    settings: str
    facts: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.step}/{self.day}"

    def has(self, table: str) -> bool:
        return bool(self._files_of(table))

    def parts(self, table: str) -> list[Part]:
        """The Parquet files of a table, each with its bucket."""
        return [Part.at(self.path / name) for name in self._files_of(table)]

    def read(self, spark, table: str):
        """The table of this partition as a Spark DataFrame."""
        if not self.has(table):
            raise NotCommitted(
                f"Partition {self.key} has no table '{table}'. It has {sorted(self.files)}."
            )
        return spark.read.parquet(str(self.path / table))

    def _files_of(self, table: str) -> list[str]:
        return [name for name in sorted(self.files) if name.startswith(f"{table}/")]


@dataclass
class Staging:
    """A partition being written: files go below `path`, small results into `facts`."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, df, table: str, keys: list[str], partitions: int = 1) -> None:
        """Write a Spark DataFrame as Parquet, so that the same rows give the same bytes.

        The rows are spread by the first key, which must be a string if there are several
        partitions, and sorted by all `keys`, which must order them totally. The names of the files
        state their buckets: see `jobs.lake.buckets`.
        """
        folder = self.path / table
        rows = spread(df, keys[0], partitions).sortWithinPartitions(*keys)
        rows.write.mode("overwrite").parquet(str(folder))
        # Hadoop's marks and checksums: the manifest has digests, and sorting the footer below would
        # make a checksum wrong.
        for leftover in [*folder.glob(".*.crc"), *folder.glob("_SUCCESS")]:
            leftover.unlink()
        for part in folder.glob("part-*.parquet"):
            # Spark's name has the number of the task, and a task writes one bucket. A task without
            # rows writes no file, except for the first, whose file holds the columns.
            bucket = int(part.name.split("-")[1])
            sort_encodings(part.rename(folder / part_name(bucket, partitions)))


class Lake:
    """All partitions below one folder, on a local disk or a file system that the cluster shares."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def days(self, step: str) -> list[date]:
        """The committed days of a step, ascending."""
        manifests = (self.root / step).glob(f"day=*/{MANIFEST}")
        names = [manifest.parent.name.removeprefix("day=") for manifest in manifests]
        return sorted(map(date.fromisoformat, names))

    def find(self, step: str, day: date) -> Partition | None:
        """The committed partition of a step and day, or None."""
        home = self._home(step, day)
        try:
            manifest = json.loads((home / MANIFEST).read_text())
        except FileNotFoundError:
            return None
        return Partition(step=step, day=day, path=home / manifest["digest"], **manifest)

    def get(self, step: str, day: date) -> Partition:
        """The committed partition of a step and day. Raises NotCommitted, with the remedy."""
        partition = self.find(step, day)
        if partition is None:
            days = [str(d) for d in self.days(step)]
            raise NotCommitted(
                f"Step '{step}' has no committed partition for {day}. It has {days or 'none'}. "
                f"Run: evergreen step {step} --day {day}"
            )
        return partition

    @contextmanager
    def writing(
        self, step: str, day: date, *, settings: str, inputs: Sequence[Partition] = ()
    ) -> Iterator[Staging]:
        """Write the partition of a step and day; it is committed when the block ends without error.

        settings: digest of the settings that shape it. inputs: the partitions it is computed from.
        """
        # Inside the lake, because a rename works only within one file system.
        staging = Staging(self.root / STAGING / f"{step}-{day}-{uuid.uuid4().hex[:8]}")
        sweep(self.root / STAGING)
        staging.path.mkdir(parents=True)
        try:
            yield staging
            digests = {partition.key: partition.digest for partition in inputs}
            self._commit(self._home(step, day), staging, settings, digests)
        finally:
            shutil.rmtree(staging.path, ignore_errors=True)

    def _home(self, step: str, day: date) -> Path:
        return self.root / step / f"day={day}"

    def _commit(self, home: Path, staging: Staging, settings: str, inputs: dict[str, str]) -> None:
        files = digests_below(staging.path)
        content = {"settings": settings, "facts": staging.facts, "inputs": inputs, "files": files}
        digest = hashlib.sha256(to_json(content).encode()).hexdigest()[:16]
        manifest = to_json({"digest": digest, **content}).encode()
        sync_tree(staging.path)
        # One writer of a partition at a time, from the moment it relies on a folder until its
        # manifest names it: else another one could delete the folder as replaced content.
        with locked(home / LOCK):
            place(staging.path, home / digest)
            write_file(home / MANIFEST, manifest)
            delete_replaced(home, digest, self.root / STAGING)


def delete_replaced(home: Path, current: str, trash: Path) -> None:
    """Delete the content of a partition that was replaced more than GRACE_S ago.

    A marker beside a folder remembers when it was replaced. current: digest of the content that the
    manifest names. trash: a folder of the same file system, which is swept.
    """
    (home / f"{current}{REPLACED}").unlink(missing_ok=True)  # an earlier content may return
    for folder in home.iterdir():
        if not folder.is_dir() or folder.name == current:
            continue
        marker = home / f"{folder.name}{REPLACED}"
        if not marker.exists():
            marker.touch()
        elif time.time() - marker.stat().st_mtime > GRACE_S:
            # Renamed first: a kill while files are deleted must not leave half of a folder under
            # the digest of the whole.
            doomed = trash / f"replaced-{uuid.uuid4().hex}"
            os.rename(folder, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            marker.unlink()


def digests_below(root: Path) -> dict[str, str]:
    """Path below `root` -> digest, of every file."""
    digests = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digests[str(path.relative_to(root))] = file_digest(path)
    return digests


def replace_text(path: Path, text: str) -> None:
    """Replace a small file by rename, without flushing it: for progress, which no one keeps."""
    # A random name, because two processes may write the file at the same time.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    draft.write_text(text)
    os.replace(draft, path)


def to_json(content: dict) -> str:
    # Sorted, so that equal content has one text and one digest. NaN is not JSON.
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
