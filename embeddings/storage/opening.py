"""Opening the place of a home, or of a registry that stands alone, in a bucket."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from embeddings.durable import write_file
from embeddings.storage.bucket import Bucket
from embeddings.storage.copies import Copies
from embeddings.storage.objects import Objects

PROBED = "conditions_held"  # in the folder of copies: by which store


def bucket(objects: Objects, copies: Path, cache_gb: float, name: str) -> Bucket:
    """The place `name` in a store, copied below `copies`/`name`.

    At its first use by this folder the store is probed. Raises UnsafeStore, StoreError.
    """
    probe_once(objects, copies / PROBED)
    return Bucket(copies / name, objects, name, Copies(copies, int(cache_gb * 1e9)))


@lru_cache
def probe_once(objects: Objects, file: Path) -> None:
    if file.exists() and file.read_text() == str(objects):
        return
    objects.require_conditions()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, str(objects).encode())
