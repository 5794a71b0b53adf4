"""One commit protocol for all that is published: partitions of the lake, versions of the registry.

    1. write the content to a staging folder, and flush it to disk
    2. `place` it at an address made from its digest; content that exists already stays
    3. replace the small file that points at it (`write_file`, or a row in the catalog), last

In a bucket the pointer is replaced by a conditional write, see `embeddings.storage`.

A reader that follows the pointer finds the old content or the new one, complete. A kill at any
moment leaves a staging folder, which `sweep` removes later. Two writers of one address never
disturb each other: equal content is one folder, different content is two.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ABANDONED_AGE_S = 24 * 3600  # a staging folder this old belongs to a writer that was killed


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests_below(root: Path) -> dict[str, str]:
    """Path below `root` -> digest, of every file."""
    digests = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digests[str(path.relative_to(root))] = file_digest(path)
    return digests


def signature(path: Path) -> list[int]:
    """Size, times and number of a file: any write to it, or a replacement, changes them."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush a folder with everything in it: the bytes of files, and the names in folders."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def write_file(path: Path, data: bytes) -> None:
    """Write a small file and flush it to disk; readers see the old file or the new one."""
    # A random name, because two processes may write the file at the same time.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Replace a small file by rename, without flushing it: for progress, which no one keeps."""
    # A random name, because two processes may write the file at the same time.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    draft.write_text(text)
    os.replace(draft, path)


def place(staging: Path, home: Path) -> bool:
    """Rename a flushed staging folder to its place. False if the same content already is there.

    home: an address that only this content has.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staging, home)
    except OSError as error:
        # rename never replaces a folder that has files: the one that came first stays.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    sync(home.parent)  # a power cut must not lose the name to which the pointer will refer
    return True


def sweep(staging_root: Path) -> None:
    """Delete what killed writers have left, folders and files, recognised by its age."""
    if not staging_root.exists():
        return
    for abandoned in staging_root.iterdir():
        try:
            if time.time() - abandoned.stat().st_mtime > ABANDONED_AGE_S:
                if abandoned.is_dir():
                    shutil.rmtree(abandoned, ignore_errors=True)
                else:  # a download
                    abandoned.unlink()
        except FileNotFoundError:  # another writer has finished or swept it
            continue


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes and threads out while the block runs.

    path: the lock file, created where it is missing. The kernel releases the lock of a process that
    is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
