"""A place in an object store, with a bounded local copy of what is read.

<prefix>/<file>               small files, at their paths below `root`
<prefix>/_contents/<path>     the files of contents, apart: small files are listed often
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from embeddings.durable import locked
from embeddings.storage import copies
from embeddings.storage.copies import Copies
from embeddings.storage.folder import CLAIM, STAGING, wait_for
from embeddings.storage.lease import Lease, leased
from embeddings.storage.objects import Objects, Tag
from embeddings.storage.place import DamagedContent

CONTENTS = "_contents"
AT_ONCE = 8  # transfers
HOME = "holder"  # in `root`: identifies this home among those that use the bucket


@dataclass(frozen=True)
class Bucket:
    """Everything is kept in `objects` below `prefix`; what is read is copied below `root`."""

    root: Path
    objects: Objects
    prefix: str
    copies: Copies
    shared: ClassVar[bool] = True

    # Files

    def read(self, file: Path) -> tuple[bytes, Tag]:
        return self.objects.get(self.key(file))

    def tag(self, file: Path) -> Tag:
        return self.objects.tag(self.key(file))

    def write(self, file: Path, data: bytes) -> None:
        self.objects.put(self.key(file), data)

    def replace(self, file: Path, data: bytes, seen: Tag | None) -> bool:
        return self.objects.replace(self.key(file), data, seen)

    def remove(self, file: Path) -> None:
        self.objects.delete([self.key(file)])

    def age_s(self, file: Path) -> float | None:
        # The clock of the store; only days are judged by it.
        for key, _, written in self.objects.listed(self.key(file.parent)):
            if key == self.key(file):
                return time.time() - written
        return None

    def folders(self, folder: Path) -> list[str]:
        return [name for name in self.objects.folders(self.key(folder)) if name != CONTENTS]

    def holders(self, folder: Path, name: str) -> list[str]:
        depth = len(self.key(folder).split("/"))
        found = []
        for key, _, _ in self.objects.listed(self.key(folder)):
            below = key.split("/")[depth:]
            if len(below) == 2 and below[1] == name:
                found.append(below[0])
        return sorted(found)

    def looking(self) -> Look:
        return Look(self.root, self.objects, self.prefix, self.copies)

    def clear(self, folder: Path) -> None:
        # Files first: nothing may point at contents that are half deleted.
        self.objects.delete([key for key, _, _ in self.objects.listed(self.key(folder))])
        for name in self.contents(folder):
            self.discard(folder / name)

    # Contents

    def holds(self, home: Path) -> bool:
        return any(True for _ in self.objects.listed(self.content_key(home)))

    def put(self, staging: Path, home: Path) -> None:
        names = [str(p.relative_to(staging)) for p in staging.rglob("*") if p.is_file()]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            keys = [self.content_key(home / name) for name in names]
            list(pool.map(self.objects.put, keys, [staging / name for name in names]))
        self.copies.use(home)
        for name in names:
            adopt(staging / name, home / name)
        copies.remember(home, names)
        self.copies.leave(home)
        shutil.rmtree(staging, ignore_errors=True)
        self.copies.make_room()

    def tags(self, home: Path, names: Iterable[str]) -> dict[str, Tag]:
        found = self._listed(home)
        return {name: found[name] for name in names if name in found}

    def digest(self, home: Path, name: str) -> str:
        return self.objects.digest(self.content_key(home / name))

    def fetched(self, home: Path, files: Mapping[str, str]) -> Path:
        self.copies.use(home)
        self._complete(home, files)
        return home

    def _complete(self, home: Path, files: Mapping[str, str]) -> None:
        """Fetch what is missing or damaged in the local copy."""
        missing = copies.damaged(home, files)
        if missing:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda name: self._fetch(home, name, files[name]), missing))
            copies.remember(home, missing)
            self.copies.make_room()
        home.mkdir(parents=True, exist_ok=True)  # a content without files

    @contextmanager
    def using(self, home: Path, files: Mapping[str, str]) -> Iterator[Path]:
        self.copies.use(home)
        try:
            self._complete(home, files)
            yield home
        finally:
            self.copies.leave(home)

    def _fetch(self, home: Path, name: str, digest: str) -> None:
        """Copy a file, and compare it with its digest before anyone can see it."""
        draft = self.root / STAGING / uuid.uuid4().hex
        draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.objects.digest(self.content_key(home / name), draft) != digest:
                raise DamagedContent(f"{name} has changed in {self.objects}")
            adopt(draft, home / name)
        except FileNotFoundError:
            raise DamagedContent(f"{name} is missing in {self.objects}") from None
        finally:
            draft.unlink(missing_ok=True)

    def release(self) -> None:
        self.copies.release(self.root)

    def text(self, home: Path, name: str) -> str:
        return self.objects.get(self.content_key(home / name))[0].decode()

    def contents(self, folder: Path) -> list[str]:
        # Of objects, not of folders: a server may go on to list one that has become empty.
        start = len(self.content_key(folder)) + 1
        keys = [key for key, _, _ in self.objects.listed(self.content_key(folder))]
        return sorted({key[start:].partition("/")[0] for key in keys})

    def size_bytes(self, home: Path) -> int:
        return sum(tag[0] for tag in self._listed(home).values())

    def content_age_s(self, home: Path) -> float:
        written = [written for _, _, written in self.objects.listed(self.content_key(home))]
        return time.time() - max(written) if written else 0.0

    def discard(self, home: Path) -> None:
        self.objects.delete(list(self._keys(home)))
        self.copies.forget(home)
        self.copies.delete(home)

    def _listed(self, home: Path) -> dict[str, Tag]:
        """The tag of every file of a content, by its name."""
        start = len(self.content_key(home)) + 1
        return {key[start:]: tag for key, tag, _ in self.objects.listed(self.content_key(home))}

    def _keys(self, home: Path) -> Iterator[str]:
        for key, _, _ in self.objects.listed(self.content_key(home)):
            yield key

    # One at a time

    @contextmanager
    def locked(self, lock: Path) -> Iterator[None]:
        # The file lock first: it is quick, and tells what a killed process of this home has left.
        with locked(lock), leased(self.objects, self.key(lock), self._holder(), alone=True):
            yield

    @contextmanager
    def hold(
        self, folder: Path, lock: Path, patience_s: float, waiting: Callable[[str], None]
    ) -> Iterator[Lease]:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / CLAIM).open("w") as claim:
            alone = wait_for(claim, folder, patience_s, waiting)
            key = self.key(folder / CLAIM)
            patience = patience_s if alone else 0.0  # it was waited for already
            with leased(self.objects, key, self._holder(), patience, waiting, alone) as lease:
                yield lease

    def _holder(self) -> str:
        """The name of this home, drawn once, and of the machine: a copied home is another one."""
        file = self.copies.root / HOME
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name(f".{HOME}.lock")):
            if not file.exists():
                file.write_text(uuid.uuid4().hex)
            return f"{file.read_text()}@{socket.gethostname()}"

    # Keys

    def key(self, path: Path) -> str:
        return "/".join([self.prefix, *path.relative_to(self.root).parts])

    def content_key(self, path: Path) -> str:
        return "/".join([self.prefix, CONTENTS, *path.relative_to(self.root).parts])


@dataclass(frozen=True)
class Look(Bucket):
    """A bucket whose small files were listed once, folder by folder, when they were first asked
    for: to judge a day, the manifests of all days before it are read again and again."""

    listed: dict[str, dict[str, Tag]] = field(default_factory=dict, compare=False)

    def read(self, file: Path) -> tuple[bytes, Tag]:
        self.tag(file)  # most are missing, and that is known
        return self.objects.get(self.key(file))

    def tag(self, file: Path) -> Tag:
        if file.parent == self.root:
            return super().tag(file)
        step = file.relative_to(self.root).parts[0]
        if step not in self.listed:
            found = self.objects.listed(f"{self.prefix}/{step}")
            self.listed[step] = {key: tag for key, tag, _ in found}
        try:
            return self.listed[step][self.key(file)]
        except KeyError:
            raise FileNotFoundError(str(file)) from None


def adopt(draft: Path, file: Path) -> None:
    """Move a compared file to its place in a copy; a reader keeps the one that it has open."""
    file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(draft, file)
