"""The lake: one committed partition a step and day, whole or not at all.

    lake/<step>/day=2022-04-25/_manifest.json      the commit: facts, inputs, and every file with its digest
    lake/<step>/day=2022-04-25/<digest>/...        the files it speaks of

A partition is written to a staging folder, moved under the digest of its own content, and becomes visible when its
manifest is replaced by rename: a reader sees the old partition or the new one, and a kill at any moment leaves only
staging rubbish that nobody reads. The same content has the same digest, so a step that runs twice changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from jobs.errors import NotCommitted
from jobs.lake.buckets import Part, part_name, spread
from jobs.lake.parquet_footer import sort_encodings

MANIFEST = "_manifest.json"


@dataclass(frozen=True)
class Partition:
    """A committed partition. `facts` are small results (counts, metrics); `inputs` maps "step/day" to its digest."""

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
        return any(name.startswith(f"{table}/") for name in self.files)

    def parts(self, table: str) -> list[Part]:
        """The Parquet files of a table, and which bucket each holds."""
        return [
            Part.at(self.path / name) for name in sorted(self.files) if name.startswith(f"{table}/")
        ]

    def read(self, spark, table: str):
        """The table of this partition as a Spark DataFrame."""
        if not self.has(table):
            raise NotCommitted(
                f"Partition {self.key} has no table '{table}'. It has {sorted(self.files)}."
            )
        return spark.read.parquet(str(self.path / table))


@dataclass
class Staging:
    """A partition being written: put files under `path`, small results into `facts`."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, df, table: str, keys: list[str], partitions: int = 1) -> None:
        """Write a Spark DataFrame as Parquet, same rows -> same bytes: spread by the first key, sorted by all `keys`.

        `keys` must order the rows totally, the first is a string where there are several partitions. The files' names
        say which bucket they hold: see `jobs.lake.buckets`.
        """
        target = self.path / table
        rows = spread(df, keys[0], partitions).sortWithinPartitions(*keys)
        rows.write.mode("overwrite").parquet(str(target))
        for leftover in [*target.glob(".*.crc"), *target.glob("_SUCCESS")]:
            leftover.unlink()
        for part in target.glob("part-*.parquet"):
            number = int(
                part.name.split("-")[1]
            )  # of the task; one without rows writes no file, unless it is the first
            sort_encodings(part.rename(target / part_name(number, partitions)))


class Lake:
    """All partitions below one folder (a local disk or a file system shared by the cluster)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def days(self, step: str) -> list[date]:
        """The committed days of a step, ascending."""
        found = (self.root / step).glob(f"day=*/{MANIFEST}")
        return sorted(
            date.fromisoformat(manifest.parent.name.removeprefix("day=")) for manifest in found
        )

    def find(self, step: str, day: date) -> Partition | None:
        home = self.root / step / f"day={day}"
        try:
            manifest = json.loads((home / MANIFEST).read_text())
        except FileNotFoundError:
            return None
        return Partition(step=step, day=day, path=home / manifest["digest"], **manifest)

    def get(self, step: str, day: date) -> Partition:
        if (partition := self.find(step, day)) is None:
            have = [str(d) for d in self.days(step)]
            raise NotCommitted(
                f"Step '{step}' has no committed partition for {day}. It has {have or 'none'}. "
                f"Run: evergreen step {step} --day {day}"
            )
        return partition

    @contextmanager
    def writing(
        self, step: str, day: date, *, settings: str, inputs: Sequence[Partition] = ()
    ) -> Iterator[Staging]:
        """Write the partition of a step and day; it is committed when the block ends without an exception.

        settings: digest of the settings that shaped it. inputs: the partitions it was computed from.
        """
        home = self.root / step / f"day={day}"
        staging = Staging(self.root / "_staging" / f"{step}-{day}-{uuid.uuid4().hex[:8]}")
        staging.path.mkdir(parents=True)
        try:
            yield staging
            self._commit(home, staging, settings, {p.key: p.digest for p in inputs})
        finally:
            shutil.rmtree(staging.path, ignore_errors=True)

    def _commit(self, home: Path, staging: Staging, settings: str, inputs: dict[str, str]) -> None:
        files = {str(p.relative_to(staging.path)): file_digest(p) for p in _files(staging.path)}
        content = {"settings": settings, "facts": staging.facts, "inputs": inputs, "files": files}
        digest = hashlib.sha256(_json(content).encode()).hexdigest()[:16]
        home.mkdir(parents=True, exist_ok=True)
        if not (home / digest).exists():
            os.replace(staging.path, home / digest)
        replace_text(home / MANIFEST, _json({"digest": digest, **content}))
        for old in home.iterdir():
            if old.is_dir() and old.name != digest:
                shutil.rmtree(old)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Write a small file by rename: readers see the old text or the new one."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    draft.write_text(text)
    os.replace(draft, path)


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file())


def _json(content: dict) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
