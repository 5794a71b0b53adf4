"""Local copies of contents, in total no larger than allowed.

    <content>/...         the files that were fetched
    <content>.copied      their sizes and times when they were compared with their digests
    <content>.used        its time: the last use. Locked by every process that uses the copy

The copies that were not used for longest go first; one that a process uses stays.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embeddings.durable import replace_text, signature
from embeddings.storage.objects import Tag

COPIED, USED = ".copied", ".used"

_used: dict[Path, tuple[int, int]] = {}  # what this process uses: locked file, how often
_threads = threading.Lock()


@dataclass(frozen=True)
class Copies:
    """All copies of a home. root: <root>/<place>/<name>/day=D/<content>. most_bytes: of all."""

    root: Path
    most_bytes: int

    def use(self, home: Path) -> None:
        """Keep a copy until this process ends, calls `leave` as often, or `release`."""
        with _threads:
            lock, uses = _used.get(home) or (self._locked(home), 0)
            _used[home] = lock, uses + 1
        os.utime(beside(home, USED))

    def _locked(self, home: Path) -> int:
        home.parent.mkdir(parents=True, exist_ok=True)
        # A number, not an object: the kernel closes it with the process, without a warning.
        lock = os.open(beside(home, USED), os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def leave(self, home: Path) -> None:
        """This process does not need the files of a copy any more, or has them open."""
        with _threads:
            lock, uses = _used.pop(home, (None, 0))
            if lock is not None and uses > 1:
                _used[home] = lock, uses - 1
            elif lock is not None:
                os.close(lock)

    def forget(self, home: Path) -> None:
        """As `leave` for all uses of a copy."""
        with _threads:
            if home in _used:
                os.close(_used.pop(home)[0])

    def release(self, below: Path) -> None:
        """This process needs none of the copies below a folder any more."""
        for home in list(_used):
            if home.is_relative_to(below):
                self.forget(home)

    def make_room(self) -> None:
        """Delete copies that no process uses until the rest is small enough."""
        sizes = {}
        for file in self.root.glob(f"*/*/day=*/*{COPIED}"):
            home = file.with_name(file.name.removesuffix(COPIED))
            sizes[home] = sum(tag[0] for tag in remembered(home).values())
        total = sum(sizes.values())
        for home in sorted(sizes, key=last_use):
            if total <= self.most_bytes:
                return
            if self.delete(home):
                total -= sizes[home]

    def delete(self, home: Path) -> bool:
        """Delete a copy that no process uses. Was it deleted?"""
        home.parent.mkdir(parents=True, exist_ok=True)
        with beside(home, USED).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            beside(home, COPIED).unlink(missing_ok=True)
            aside = home.with_name(f".{home.name}.{uuid.uuid4().hex[:8]}")
            if home.exists():
                os.rename(home, aside)
                shutil.rmtree(aside, ignore_errors=True)
        return True


def damaged(home: Path, names: Iterable[str]) -> list[str]:
    """The files of a copy that are missing, or were written to since they were compared."""
    known = remembered(home)
    return [n for n in names if n not in known or known[n] != tag_of(home / n)]


def remember(home: Path, names: Iterable[str]) -> None:
    """These files of a copy have just been compared with their digests."""
    found = remembered(home) | {name: signature(home / name) for name in names}
    replace_text(beside(home, COPIED), json.dumps(found))


def remembered(home: Path) -> dict[str, Tag]:
    try:
        return json.loads(beside(home, COPIED).read_text())
    except (OSError, ValueError):
        return {}


def tag_of(file: Path) -> Tag | None:
    try:
        return signature(file)
    except OSError:
        return None


def last_use(home: Path) -> float:
    try:
        return beside(home, USED).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def beside(home: Path, suffix: str) -> Path:
    return home.with_name(home.name + suffix)
