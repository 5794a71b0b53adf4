"""An entity's vectors on disk: a folder of shards, each written by whoever has its rows.

    consumer/shard-00000/ids.npy, vectors.npy, counts.npy, folded.npy     ids sorted within a shard
    consumer/ids.npy, rows.npy            the index over several shards: all ids sorted, and the row of each

Rows are counted through the shards, in the order of their names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embeddings.registry.checks import checked_as_written, checked_shard
from embeddings.registry.errors import BadVersion
from embeddings.registry.vectors import FIELDS, Entity, Index, Vectors


def write_shard(folder: Path, number: int, vectors: Vectors) -> None:
    """Write some of an entity's vectors as folder/shard-NUMBER; `Registry.publish` takes the folder.

    vectors: in one piece, ids sorted, none of them in another shard; it may have no rows. Raises BadVersion.
    """
    save_shard(folder, number, checked_shard(str(folder / shard_name(number)), vectors))


def shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def open_shards(folder: Path) -> Entity:
    """All shards of a folder, mapped. Raises BadVersion."""
    return as_entity(read_shards(folder))


def read_shards(folder: Path) -> list[Vectors]:
    """The shards of a folder, mapped, in the order of their names. Raises BadVersion."""
    homes = sorted(folder.glob("shard-*"))
    if not homes:
        raise BadVersion(
            f"{folder} holds no shards; write them there with embeddings.registry.shards.write_shard."
        )
    try:
        return [Vectors(*(map_array(home / f"{field}.npy") for field in FIELDS)) for home in homes]
    except (OSError, ValueError, EOFError) as error:
        raise BadVersion(f"A shard of {folder} cannot be read: {error}.") from None


def checked_entity(entity: str, source: Vectors | Path, dim: int | None = None) -> Entity:
    """An entity as it is stored. source: all of it, or a folder of shards. dim: the length of its vectors; None: any.

    Raises BadVersion.
    """
    if isinstance(source, Vectors):
        found = as_entity([checked_shard(entity, source, dim)])
    else:
        shards = enumerate(read_shards(source))
        found = as_entity(
            [checked_as_written(f"{entity}/{shard_name(i)}", shard, dim) for i, shard in shards]
        )
    if not len(found):
        raise BadVersion(f"{entity} has no rows; leave the entity out, or give it at least one.")
    return found


def put_entity(home: Path, source: Vectors | Path, checked: Entity) -> None:
    """Put an entity's files into `home`. checked: what `checked_entity` made of the source."""
    if isinstance(source, Vectors):
        save_shard(home, 0, checked.shards[0])
    else:
        link_shards(source, home)
    if checked.index.rows is not None:
        np.save(home / "ids.npy", checked.index.ids, allow_pickle=False)
        np.save(home / "rows.npy", checked.index.rows, allow_pickle=False)


def save_shard(folder: Path, number: int, shard: Vectors) -> None:
    home = folder / shard_name(number)
    home.mkdir(parents=True, exist_ok=True)
    for field in FIELDS:
        np.save(home / f"{field}.npy", getattr(shard, field), allow_pickle=False)


def link_shards(source: Path, target: Path) -> None:
    """The same files in another folder: by hard links where the file system can, else copied."""
    for path in sorted(source.glob("shard-*/*.npy")):
        home = target / path.parent.name
        home.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, home / path.name)
        except OSError:
            shutil.copyfile(path, home / path.name)


def map_array(path: Path) -> np.ndarray:
    """A file as a read-only plain view: indexing np.memmap itself costs several times as much."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def as_entity(shards: Sequence[Vectors]) -> Entity:
    """The shards as one. Raises BadVersion when two of them have the same id."""
    return Entity(shards, index_of([shard.ids for shard in shards]) if len(shards) > 1 else None)


def index_of(ids: Sequence[np.ndarray]) -> Index:
    """The index over the sorted ids of several shards. Raises BadVersion when two shards have the same id."""
    every = np.concatenate(ids)
    order = np.argsort(every, kind="stable")  # finds the sorted runs and merges them
    index = Index(every[order], order)
    if len(twice := np.flatnonzero(index.ids[1:] == index.ids[:-1])):
        raise BadVersion(
            f"An id may be in one shard only; {index.ids[twice[0]].decode()!r} is in two."
        )
    return index
