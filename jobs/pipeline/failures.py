"""Failures of the machine as errors of ours, which name the culprit and the remedy."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embeddings.storage.objects import StoreError
from jobs import errors
from jobs.errors import EvergreenError, Skip, StorageError, TaskError
from jobs.settings import Settings
from jobs.settings.storage import COPY

FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "has no quota left", errno.EFBIG: "is full"}
UNWRITABLE = {
    errno.EROFS: "is mounted read-only",
    errno.EACCES: "may not be written by this user",
    errno.EPERM: "may not be written by this user",
}
GONE = {
    errno.EIO: "cannot be read or written",
    errno.ENOTCONN: "is not mounted any more",
    errno.ESTALE: "is not mounted any more",
    errno.ENODEV: "is not mounted any more",
}
# What the JVM says of the same; an error of Python in a task has its class and message in the text.
JVM_FULL = re.compile(r"No space left on device|Disk quota exceeded")
JVM_UNWRITABLE = re.compile(r"Read-only file system|\(Permission denied\)|AccessDeniedException")
OURS = re.compile(r"jobs\.errors\.(\w+): (.*)")
RAISED = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b.*$", re.MULTILINE)


@contextmanager
def failures_explained(settings: Settings) -> Iterator[None]:
    """Turn what the disk and Spark report into StorageError, TaskError, or an error of ours."""
    try:
        yield
    except (EvergreenError, Skip):
        raise
    except Exception as error:
        explained = explanation(error, settings.home)
        if explained is None:
            raise
        raise explained from error


def explanation(error: Exception, home: Path) -> EvergreenError | None:
    """The error of ours behind an exception; None where it is something else."""
    if isinstance(error, OSError):
        return of_disk(error, home)
    return of_spark(error, home)


def of_disk(error: OSError, home: Path) -> EvergreenError | None:
    """The failure of the disk behind an OSError; None where it is something else."""
    if isinstance(error, StoreError):
        return StorageError(str(error))
    where = Path(error.filename) if isinstance(error.filename, str | Path) else home
    if error.errno in FULL:
        return full(where, home, FULL[error.errno])
    if error.errno in UNWRITABLE:
        return unwritable(where, UNWRITABLE[error.errno])
    if error.errno in GONE:
        return StorageError(
            f"{where} {GONE[error.errno]}: {error.strerror}. Mount it again, or replace the disk; "
            "then run the step again. Nothing half-written is left."
        )
    return None


def full(where: Path, home: Path, how: str) -> StorageError:
    more = (
        ", and a smaller storage.cache_gb leaves more" if lake_files(home) != home / "lake" else ""
    )
    usage = shutil.disk_usage(home if home.exists() else home.parent)
    return StorageError(
        f"The disk of {where} {how}: {megabytes(usage.free)} of {megabytes(usage.total)} are free, "
        f"and one day of this home takes about {megabytes(day_bytes(home))}. Free some space "
        f"(`evergreen gc` shows what may go{more}), then run the step again."
    )


def unwritable(where: Path, how: str) -> StorageError:
    return StorageError(
        f"{where} {how}. Evergreen writes below its home: make it writable, "
        "or name another one with `home` in the settings file."
    )


def of_spark(error: Exception, home: Path) -> EvergreenError | None:
    """The failure behind an exception of Spark; None where it is not one of Spark's."""
    if not type(error).__module__.startswith(("pyspark", "py4j")):
        return None
    text = str(error)
    if JVM_FULL.search(text):
        return full(home, home, "is full")
    if JVM_UNWRITABLE.search(text):
        return unwritable(home, "cannot be written by Spark")
    if ours := OURS.findall(text):
        name, message = ours[-1]
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, EvergreenError):
            return kind(message)
    if type(error).__name__ == "PythonException" and (raised := RAISED.findall(text)):
        return TaskError(f"A Spark task failed: {raised[-1]}")
    return None


def day_bytes(home: Path) -> int:
    """Bytes of the newest day of every step in the lake, or in the local copy of a bucket."""
    total = 0
    for step in lake_files(home).glob("[!._]*"):
        days = sorted(step.glob("day=*"))
        if days:
            total += sum(file.stat().st_size for file in days[-1].rglob("*") if file.is_file())
    return total


def lake_files(home: Path) -> Path:
    """Where a home has files of the lake: in the local copy, if it is in a bucket."""
    copy = home / COPY / "lake"
    return copy if copy.exists() and not (home / "lake").exists() else home / "lake"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
