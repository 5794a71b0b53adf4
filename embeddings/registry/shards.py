"""An entity's vectors on disk: a folder of shards, each written by the process that has its rows.

    consumer/shard-00000/ids.npy, vectors.npy, counts.npy, folded.npy     ids sorted within a shard
    consumer/shard-00000/vectors-50.npy      the same rows at a learned length
    consumer/ids.npy, rows.npy      index over several shards: all ids sorted, and the row of each

Rows are numbered through the shards, in the order of their names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.lengths.encoder import Encoder
from embeddings.registry.checks import checked_as_written, checked_shard
from embeddings.registry.errors import BadVersion
from embeddings.registry.vectors import FIELDS, Entity, Index, Vectors


def write_shard(folder: Path, number: int, vectors: Vectors) -> None:
    """Write vectors of an entity as folder/shard-NUMBER; `Registry.publish` takes the folder.

    vectors: ids sorted, none of them in another shard; may be empty. Raises BadVersion.
    """
    save_shard(folder, number, checked_shard(str(folder / shard_name(number)), vectors))


def shard_name(number: int) -> str:
    """The folder of a shard, padded so that names sort by number."""
    return f"shard-{number:05d}"


def open_shards(folder: Path) -> Entity:
    """All shards of a folder as one entity, memory-mapped. Raises BadVersion."""
    return as_entity(read_shards(folder))


def shard_homes(folder: Path) -> list[Path]:
    """The folders of all shards, sorted by name. Raises BadVersion if there are none."""
    homes = sorted(folder.glob("shard-*"))
    if not homes:
        raise BadVersion(
            f"{folder} holds no shards; write them with embeddings.registry.shards.write_shard."
        )
    return homes


def read_shards(folder: Path) -> list[Vectors]:
    """The shards of a folder, memory-mapped, in the order of their names. Raises BadVersion."""
    shards = []
    for home in shard_homes(folder):
        try:
            arrays = [map_array(home / f"{field}.npy") for field in FIELDS]
        except (OSError, ValueError, EOFError) as error:
            raise BadVersion(f"A shard of {folder} cannot be read: {error}.") from None
        shards.append(Vectors(*arrays))
    return shards


def checked_entity(entity: str, source: Vectors | Path, dim: int | None = None) -> Entity:
    """An entity as it is stored. Raises BadVersion.

    source: all its vectors, or a folder of shards. dim: the required length of its vectors; None
    accepts any.
    """
    if isinstance(source, Vectors):
        shards = [checked_shard(entity, source, dim)]
    else:
        shards = []
        for home, shard in zip(shard_homes(source), read_shards(source), strict=True):
            shards.append(checked_as_written(f"{entity}/{home.name}", shard, dim))
    stored = as_entity(shards)
    if not len(stored):
        raise BadVersion(f"{entity} has no rows; leave the entity out, or give it at least one.")
    return stored


def save_entity(home: Path, source: Vectors | Path, checked: Entity) -> None:
    """Write or link an entity's files into `home`. checked: `checked_entity` of the source."""
    if isinstance(source, Vectors):
        save_shard(home, 0, checked.shards[0])
    else:
        link_shards(source, home)
    # A single shard is its own index, because its ids are sorted.
    if checked.index.rows is not None:
        np.save(home / "ids.npy", checked.index.ids, allow_pickle=False)
        np.save(home / "rows.npy", checked.index.rows, allow_pickle=False)


def save_shard(folder: Path, number: int, shard: Vectors) -> None:
    """Write a checked shard."""
    home = folder / shard_name(number)
    home.mkdir(parents=True, exist_ok=True)
    for field in FIELDS:
        np.save(home / f"{field}.npy", getattr(shard, field), allow_pickle=False)


def save_lengths(home: Path, checked: Entity, encoder: Encoder) -> None:
    """Write each shard of a written entity at every length of the encoder. Raises BadVersion."""
    for folder, shard in zip(shard_homes(home), checked.shards, strict=True):
        for length in encoder.lengths:
            # The last bits depend on the number of threads, and the digest on them.
            with threadpool_limits(1):
                shorter = encoder.encode(shard.vectors, length)
            if not np.isfinite(shorter).all():
                raise BadVersion(
                    f"{home.name}: the encoder makes vectors of length {length} that are not "
                    "finite. Publish without it, or train it again."
                )
            np.save(folder / shorter_name(length), shorter, allow_pickle=False)


def shorter_name(length: int) -> str:
    """The file of a shard's vectors at a learned length."""
    return f"vectors-{length}.npy"


def link_shards(source: Path, target: Path) -> None:
    """The same shards in another folder: hard links where the file system allows, else copies."""
    for shard in shard_homes(source):
        home = target / shard.name
        home.mkdir(parents=True, exist_ok=True)
        for field in FIELDS:  # not the shorter lengths that the source may have
            path = shard / f"{field}.npy"
            try:
                os.link(path, home / path.name)  # safe to share: a written file never changes
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(path, home / path.name)


def map_array(path: Path) -> np.ndarray:
    """A file as a read-only plain view: indexing np.memmap itself costs several times as much."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def as_entity(shards: Sequence[Vectors]) -> Entity:
    """The shards as one entity. Raises BadVersion if an id is in two shards."""
    if len(shards) == 1:
        return Entity(shards)
    return Entity(shards, index_of([shard.ids for shard in shards]))


def index_of(ids: Sequence[np.ndarray]) -> Index:
    """The index over the sorted ids of several shards. Raises BadVersion if an id is repeated."""
    all_ids = np.concatenate(ids)
    # A stable sort recognises sorted runs, here the shards, and merges them.
    order = np.argsort(all_ids, kind="stable")
    index = Index(all_ids[order], order)
    repeated = np.flatnonzero(index.ids[1:] == index.ids[:-1])
    if len(repeated):
        raise BadVersion(
            f"An id may be in only one shard; {index.ids[repeated[0]].decode()!r} is in two."
        )
    return index
