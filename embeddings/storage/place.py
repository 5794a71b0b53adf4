"""The seam between what is committed and where it lies: a folder, or a bucket.

Paths are local ones below `root`, wherever the bytes are. There are two kinds of things:

- **files**, small, replaced when something is committed: manifests, markers
- **contents**, folders that never change, at addresses made from their digests
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from embeddings.storage.objects import Tag


class DamagedContent(OSError):
    """A file of a content is missing or changed where it is kept."""


class Hold(Protocol):
    """The right of one process to something, which another one may have taken over."""

    def kept(self) -> bool: ...


class Place(Protocol):
    """Where files and contents are kept. `root`: the local folder to which the paths belong."""

    def __hash__(self) -> int: ...

    @property
    def root(self) -> Path: ...

    @property
    def shared(self) -> bool:
        """Do its tags mean the same to every machine?"""
        ...

    # Files

    def read(self, file: Path) -> tuple[bytes, Tag]:
        """A file and its tag. Raises FileNotFoundError."""
        ...

    def tag(self, file: Path) -> Tag:
        """Changes with every write. Raises FileNotFoundError."""
        ...

    def write(self, file: Path, data: bytes) -> None:
        """Write a file durably; readers see the old one or the new one."""
        ...

    def replace(self, file: Path, data: bytes, seen: Tag | None) -> bool:
        """Write a file if it is as it was `seen` (None: missing). Was it written?

        The caller holds the lock of what the file belongs to; data: as `Objects.replace`.
        """
        ...

    def remove(self, file: Path) -> None:
        """Delete a file, if it exists."""
        ...

    def age_s(self, file: Path) -> float | None:
        """Seconds since a file was written; None where it is missing."""
        ...

    def folders(self, folder: Path) -> list[str]:
        """The names of the folders directly below one, sorted."""
        ...

    def holders(self, folder: Path, name: str) -> list[str]:
        """Those of these folders that have a file of this name, sorted."""
        ...

    def looking(self) -> Place:
        """The same place as it is now: what is read of it again and again is listed once."""
        ...

    def clear(self, folder: Path) -> None:
        """Delete a folder with all its files and contents."""
        ...

    # Contents

    def holds(self, home: Path) -> bool:
        """Is there a content at this address, whole or not?"""
        ...

    def put(self, staging: Path, home: Path) -> None:
        """Keep a staged and flushed folder at an address, instead of what may be there.

        staging: below `root`; it is gone afterwards.
        """
        ...

    def tags(self, home: Path, names: Iterable[str]) -> dict[str, Tag]:
        """The tags of the files of a content; missing ones are left out."""
        ...

    def digest(self, home: Path, name: str) -> str:
        """SHA-256 of a file as it is kept. Raises FileNotFoundError, OSError."""
        ...

    def fetched(self, home: Path, files: Mapping[str, str]) -> Path:
        """The local folder with these files of a content, whole; it stays until `release`.

        files: name -> digest. Raises DamagedContent.
        """
        ...

    def using(self, home: Path, files: Mapping[str, str]) -> AbstractContextManager[Path]:
        """As `fetched`, but only while the block runs."""
        ...

    def release(self) -> None:
        """This process uses no path any more that `fetched` has returned."""
        ...

    def text(self, home: Path, name: str) -> str:
        """A small file of a content. Raises OSError."""
        ...

    def contents(self, folder: Path) -> list[str]:
        """The names of the contents directly below a folder, sorted."""
        ...

    def size_bytes(self, home: Path) -> int:
        """The size of all files of a content; 0 where there is none."""
        ...

    def content_age_s(self, home: Path) -> float:
        """Seconds since a content was put; 0 where there is none."""
        ...

    def discard(self, home: Path) -> None:
        """Delete a content, if there is one. A reader that has its files open can go on."""
        ...

    # One at a time

    def locked(self, lock: Path) -> AbstractContextManager[None]:
        """Keep every other process out while the block runs."""
        ...

    def hold(
        self, folder: Path, lock: Path, patience_s: float, waiting: Callable[[str], None]
    ) -> AbstractContextManager[Hold]:
        """Be the only holder of a folder while the block runs.

        Waits for the holder before; one that neither ends nor dies is superseded after
        `patience_s`. lock: is held while the holder changes. waiting: is given a message.
        """
        ...
