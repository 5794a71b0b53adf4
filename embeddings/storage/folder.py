"""A place that is a folder, on a local disk or on a file system that several machines share."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from embeddings.durable import file_digest, locked, place, signature, write_file
from embeddings.storage.objects import Tag

STAGING = "_staging"
CLAIM = ".claim"  # locked by the holder, while it runs; the kernel releases it with a process
TOKEN = ".token"  # drawn anew by every holder
POLL_S = 0.1


@dataclass(frozen=True)
class Folder:
    """Everything lies below `root`, where it is read."""

    root: Path
    shared: ClassVar[bool] = False

    # Files

    def read(self, file: Path) -> tuple[bytes, Tag]:
        # The tag first: what is written meanwhile is then read again.
        tag = signature(file)
        return file.read_bytes(), tag

    def tag(self, file: Path) -> Tag:
        return signature(file)

    def write(self, file: Path, data: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, data)

    def replace(self, file: Path, data: bytes, seen: Tag | None) -> bool:
        try:
            now = signature(file)
        except FileNotFoundError:
            now = None
        if now != seen:
            return False
        self.write(file, data)
        return True

    def remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)

    def age_s(self, file: Path) -> float | None:
        try:
            return time.time() - file.stat().st_mtime
        except FileNotFoundError:
            return None

    def folders(self, folder: Path) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        except FileNotFoundError:
            return []

    def holders(self, folder: Path, name: str) -> list[str]:
        return sorted(file.parent.name for file in folder.glob(f"*/{name}"))

    def looking(self) -> Folder:
        return self

    def clear(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    # Contents

    def holds(self, home: Path) -> bool:
        return home.exists()

    def put(self, staging: Path, home: Path) -> None:
        # What is there is renamed first: a reader of it keeps what it has open.
        if not place(staging, home):
            self.discard(home)
            place(staging, home)

    def tags(self, home: Path, names: Iterable[str]) -> dict[str, Tag]:
        found = {}
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                found[name] = signature(home / name)
        return found

    def digest(self, home: Path, name: str) -> str:
        return file_digest(home / name)

    def fetched(self, home: Path, files: Mapping[str, str]) -> Path:
        return home

    def using(self, home: Path, files: Mapping[str, str]) -> AbstractContextManager[Path]:
        return nullcontext(home)

    def release(self) -> None:
        return

    def text(self, home: Path, name: str) -> str:
        return (home / name).read_text()

    def contents(self, folder: Path) -> list[str]:
        return self.folders(folder)

    def size_bytes(self, home: Path) -> int:
        total = 0
        for file in home.rglob("*"):
            with suppress(FileNotFoundError):  # it may be removed meanwhile
                total += file.stat().st_size if file.is_file() else 0
        return total

    def content_age_s(self, home: Path) -> float:
        return self.age_s(home) or 0.0

    def discard(self, home: Path) -> None:
        # Renamed first: a reader finds all of it or nothing, and so does what comes after a kill.
        aside = self.root / STAGING / uuid.uuid4().hex
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(home, aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)  # a kill leaves the rest to `sweep`
        with suppress(OSError):  # other contents, or files, of the same day
            home.parent.rmdir()

    # One at a time

    def locked(self, lock: Path) -> AbstractContextManager[None]:
        return locked(lock)

    @contextmanager
    def hold(
        self, folder: Path, lock: Path, patience_s: float, waiting: Callable[[str], None]
    ) -> Iterator[TokenHold]:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / CLAIM).open("w") as claim:
            wait_for(claim, folder, patience_s, waiting)
            hold = TokenHold(folder / TOKEN, uuid.uuid4().hex)
            # Under the lock: a commit that has begun ends before the claim moves.
            with locked(lock):
                write_file(hold.file, hold.token.encode())
            yield hold


@dataclass(frozen=True)
class TokenHold:
    """A fencing token. (M. Kleppmann, "How to do distributed locking", 2016.)"""

    file: Path
    token: str

    def kept(self) -> bool:
        # Without a file, the partition was deleted while its runner was silent.
        return self.file.exists() and self.file.read_text() == self.token


def wait_for(
    claim: IO[str], folder: Path, patience_s: float, waiting: Callable[[str], None]
) -> bool:
    """Lock a file; after `patience_s` it is taken over without the lock. Was it locked?"""
    deadline = time.monotonic() + patience_s
    told = False
    while True:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                waiting(f"The runner of {folder} does not end: its claim is taken over.")
                return False
        if not told:
            waiting(f"Another run computes {folder}: waiting for it.")
            told = True
        time.sleep(POLL_S)
