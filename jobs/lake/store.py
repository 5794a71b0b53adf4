"""The lake: one committed partition per step and day, visible as a whole or not at all.

    lake/<step>/day=2022-04-25/_manifest.json      the commit: what it holds, and how it came about
    lake/<step>/day=2022-04-25/<digest>/...        the files that the manifest lists
    lake/<step>/day=2022-04-25/<digest>.seen       when these files were last compared with it
    lake/<step>@<name>/day=2022-04-25/...          of a further embedding; other steps are shared

A partition is written to a staging folder, moved to a folder named by the digest of its content,
and becomes visible when its manifest is replaced (`embeddings.durable`). A reader sees the old
partition or the new one, and a kill at any moment leaves only staging files, of which nothing is
read but what a step has put into its `Lake.scratch` to go on with. In a bucket the folders are
objects, and the manifest is replaced by a conditional write (`embeddings.storage`).
Content that another one has replaced stays for a day: a reader may have found it just before.

The digest is that of the content, which is the files and the facts. Settings and inputs are not
part of it: a step that runs again and finds the same leaves everything computed from it current.

Steps write files below `Staging.path` and read files below `Partition.path`, in any format. Where
these folders are is decided in this module only, and how files get there by the lake's place.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.durable import digests_below, sweep, sync_tree
from embeddings.storage.folder import STAGING, Folder
from embeddings.storage.place import DamagedContent, Place
from jobs.errors import DamagedPartition, NotCommitted
from jobs.lake import claims
from jobs.lake.buckets import Part, part_name, spread
from jobs.lake.contents import delete_replaced, keep_whole
from jobs.lake.integrity import damage
from jobs.lake.manifest import MANIFEST, content_digest, read_manifest, sealed, tag_or_none
from jobs.lake.parquet_footer import sort_encodings
from jobs.lake.schema import quoted

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

# Spark would take the brackets in a name for a pattern, and with a colon beside them there is no
# way to escape one. This option is what its own table scans use.
NO_PATTERNS = {"__globPaths__": "false"}
LOCK = ".lock"  # in a partition's folder: held while it is committed
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Partition:
    """A committed partition: its content, and how it came about.

    folder: the address of its files. files: each file's path below `path` -> its digest. facts:
    small results (counts, metrics). recipe: settings and code that shaped it. inputs: "step/day" ->
    the digest of each partition that it was computed from. sources: each file of the log that it
    was read from -> its digest; log: where that log was. Both are empty for a partition that was
    not read from the log. stored: in a bucket, the tag of every file when it was committed.
    """

    step: str
    day: date
    folder: Path
    digest: str
    facts: dict[str, Any]
    files: dict[str, str]
    recipe: str
    inputs: dict[str, str]
    log: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    place: Place = field(default=Folder(Path()), compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The local folder with its files; those of a bucket are fetched, and compared then.

        Raises DamagedPartition for a file that the bucket has lost or changed.
        """
        try:
            return self.place.fetched(self.folder, self.files)
        except DamagedContent as fault:
            raise DamagedPartition(
                f"{self.key} is damaged: {fault}. `evergreen verify --repair` computes it again."
            ) from None

    @property
    def home(self) -> Path:
        """The folder of its step and day."""
        return self.folder.parent

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
        return read_parquet(spark, [self.path / table])

    def _files_of(self, table: str) -> list[str]:
        return [name for name in sorted(self.files) if name.startswith(f"{table}/")]


@dataclass
class Staging:
    """A partition being written: files go below `path`, small results into `facts`.

    home: the folder of its step and day, in `place`.
    """

    path: Path
    home: Path
    place: Place
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Keep every other runner from taking the step and day over while the block runs.

        For what a step writes elsewhere than in the lake. Raises Superseded where one has.
        """
        with self.place.locked(self.home / LOCK):
            claims.require(self.home)
            yield

    def write(self, df, table: str, keys: list[str], partitions: int = 1) -> None:
        """Write a Spark DataFrame as Parquet, so that the same rows give the same bytes.

        The rows are spread by the first key, which must be a string if there are several
        partitions, and sorted by all `keys`, which must order them totally. The names of the files
        state their buckets: see `jobs.lake.buckets`.
        """
        folder = self.path / table
        rows = spread(df, keys[0], partitions).sortWithinPartitions(*map(quoted, keys))
        rows.write.mode("overwrite").parquet(str(folder))
        # Hadoop's marks and checksums: the manifest has digests, and sorting the footer below would
        # make a checksum wrong.
        for leftover in [*folder.glob(".*.crc"), *folder.glob("_SUCCESS")]:
            leftover.unlink()
        for part in folder.glob("part-*.parquet"):
            # Spark's name has the number of the task, and a task writes one partition. A task
            # without rows writes no file, except for the first, whose file holds the columns.
            number = int(part.name.split("-")[1])
            sort_encodings(part.rename(folder / part_name(number, partitions)))


def read_parquet(spark, folders: Sequence[Path]):
    """The Parquet files below exactly these folders, or exactly these files, as one DataFrame.

    Their columns are those of the first file. Without them Spark starts a job for every table, in
    order to read one footer, and a Connect server does so each time the table is mentioned.
    """
    reader = spark.read.schema(columns_of(folders[0])).options(**NO_PATTERNS)
    return reader.parquet(*map(str, folders))


def columns_of(folder: Path) -> StructType:
    """The columns of the Parquet files in a folder, or of a file, in Spark's types."""
    from pyarrow import parquet
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import StructType

    file = min(folder.glob("*.parquet")) if folder.is_dir() else folder
    columns = StructType()
    for column in parquet.read_schema(file):
        columns.add(column.name, from_arrow_type(column.type))
    return columns


class Lake:
    """All partitions in one place: a folder, on a local disk or a shared file system, or a bucket.

    own: the further embedding whose partitions of `own_steps` these are; "": the first one. The
    partitions of other steps are the same for all embeddings.
    """

    def __init__(self, place: Place | Path, own: str = "", own_steps: Sequence[str] = ()) -> None:
        self.place: Place = Folder(place) if isinstance(place, Path) else place
        self.root = self.place.root
        self.own = own
        self.own_steps = own_steps

    def folder(self, step: str) -> str:
        """The name of a step's folder."""
        return f"{step}@{self.own}" if self.own and step in self.own_steps else step

    def steps(self) -> list[str]:
        """The steps that have a folder, sorted."""
        found = []
        for name in self.place.folders(self.root):
            step = name.partition("@")[0]
            if step[0] not in "._" and name == self.folder(step):
                found.append(step)
        return sorted(found)

    def days(self, step: str) -> list[date]:
        """The committed days of a step, ascending."""
        names = self.place.holders(self.root / self.folder(step), MANIFEST)
        return [date.fromisoformat(name.removeprefix("day=")) for name in names]

    def days_before(self, step: str, day: date) -> Iterator[date]:
        """The committed days of a step before a day, ascending.

        Lazily, because this is asked about every partition of a home, and mostly there are none.
        """
        folder = self.root / self.folder(step)
        for name in self.place.folders(folder):
            text = name.removeprefix("day=")
            if text >= str(day):
                return
            if tag_or_none(self.place, folder / name / MANIFEST) is not None:
                yield date.fromisoformat(text)

    def find(self, step: str, day: date) -> Partition | None:
        """The committed partition of a step and day, or None.

        Its files are not compared with their digests. A damaged manifest is as good as none.
        """
        home = self.home(step, day)
        try:
            manifest = read_manifest(self.place, home / MANIFEST)
        except FileNotFoundError:
            return None
        except DamagedPartition as fault:
            logger.warning("%s", fault)
            return None
        folder = home / manifest["digest"]
        return Partition(step=step, day=day, folder=folder, place=self.place, **manifest)

    def get(self, step: str, day: date) -> Partition:
        """The committed partition of a step and day, whole.

        Raises NotCommitted where there is none, DamagedPartition where a file of it is missing or
        changed; both name the remedy.
        """
        partition = self.find(step, day)
        if partition is None:
            days = [str(d) for d in self.days(step)]
            raise NotCommitted(
                f"Step '{step}' has no committed partition for {day}. It has {days or 'none'}. "
                f"Run: {self.command(step, day)}"
            )
        if faults := damage(partition):
            raise DamagedPartition(
                f"{partition.key} is damaged: {', '.join(faults)} below {partition.folder}. "
                f"Compute it again: {self.command(step, day)}"
            )
        return partition

    def scratch(self, step: str, day: date) -> Path:
        """A folder in which a step may leave what it goes on with after a kill; it may be missing.

        The step deletes it when it has succeeded. It is swept a day after its last change.
        """
        return self.root / STAGING / f"{self.folder(step)}-{day}-scratch"

    @contextmanager
    def claimed(self, step: str, day: date) -> Iterator[None]:
        """Be the only runner of a step and day while the block runs; waits for another one.

        Raises Superseded from a commit of a runner whose claim another one has taken over.
        """
        home = self.home(step, day)
        try:
            with claims.claimed(self.place, home, home / LOCK):
                yield
        finally:
            self.place.release()  # its inputs are read

    @contextmanager
    def writing(
        self,
        step: str,
        day: date,
        *,
        recipe: str,
        inputs: Sequence[Partition] = (),
        log: str = "",
        sources: Mapping[str, str] | None = None,
    ) -> Iterator[Staging]:
        """Write the partition of a step and day; it is committed when the block ends without error.

        recipe: identity of the settings and the code that shape it. inputs: the partitions it is
        computed from. log, sources: where the log is, and the digests of the files read from it.
        """
        # Inside the lake, because a rename works only within one file system.
        path = self.root / STAGING / f"{self.folder(step)}-{day}-{uuid.uuid4().hex[:8]}"
        home = self.home(step, day)
        staging = Staging(path, home, self.place)
        sweep(self.root / STAGING)
        path.mkdir(parents=True)
        try:
            yield staging
            origin = {
                "recipe": recipe,
                "inputs": {partition.key: partition.digest for partition in inputs},
                "log": log,
                "sources": dict(sources or {}),
            }
            self._commit(home, staging, origin)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def remove(self, partition: Partition) -> None:
        """Delete a partition. A reader that has its files open can go on."""
        with self.place.locked(partition.home / LOCK):
            # First: without a manifest nothing points at files that are half deleted.
            self.place.remove(partition.home / MANIFEST)
        self.place.clear(partition.home)

    def home(self, step: str, day: date) -> Path:
        """The folder of a step and day. Raises TypeError for a moment instead of a day."""
        if isinstance(day, datetime):  # a date as well, whose text would name another folder
            raise TypeError(f"{day!r} is not a day: pass its date().")
        return self.root / self.folder(step) / f"day={day}"

    def command(self, step: str, day: date) -> str:
        """The command that computes a partition."""
        embedding = f" --embedding {self.own}" if self.folder(step) != step else ""
        return f"evergreen step {step} --day {day}{embedding}"

    def _commit(self, home: Path, staging: Staging, origin: dict[str, Any]) -> None:
        files = digests_below(staging.path)
        content = {"facts": staging.facts, "files": files}
        digest = content_digest(content)
        manifest = {"digest": digest, **content, **origin}
        sync_tree(staging.path)
        # One writer of a partition at a time, from the moment it relies on a folder until its
        # manifest names it: else another one could delete the folder as replaced content.
        with staging.fenced():
            keep_whole(self.place, staging.path, home / digest, files)
            self._point(home, manifest)
            delete_replaced(self.place, home, digest)

    def _point(self, home: Path, manifest: dict[str, Any]) -> None:
        """Replace the manifest: the commit."""
        file = home / MANIFEST
        if self.place.shared:
            tags = self.place.tags(home / manifest["digest"], manifest["files"])
            # Random, so that no two commits are the same object: see `Objects.replace`.
            manifest = {**manifest, "stored": {"commit": uuid.uuid4().hex, "tags": tags}}
        while True:
            seen = tag_or_none(self.place, file)
            # In this order: once a successor has committed, the manifest is not as it was seen.
            claims.require(home)
            if self.place.replace(file, sealed(manifest), seen):
                return
