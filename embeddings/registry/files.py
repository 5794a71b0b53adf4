"""The files of a version: arrays that never change, opened as memory maps.

    versions/<name>/day=2022-04-25/<digest>/manifest.json         content, lineage; written last
    versions/<name>/day=2022-04-25/<digest>/consumer/...          an entity's shards, see `shards`
    versions/<name>/day=2022-04-25/<digest>/consumer/neighbours.faiss   where there is an index
    versions/<name>/day=2022-04-25/<digest>/fold_in.matrix.npy    one array of the fold-in
    versions/<name>/day=2022-04-25/<digest>/encoder.weight_0.npy  of learned lengths, one array of
                                                                  what shortens further vectors

A version is written to a staging folder, which is then renamed to the digest of its content, so
that a version exists completely or not at all. The same content in the same shards gives the same
folder, whichever process writes it and however often.

Folders appear and disappear only under the lock of their embedding. A publisher holds it until the
version is in the catalog, so no other process takes a folder away that is about to be recorded.

Where they are kept is decided by a place of `embeddings.storage`: in a folder, or in a bucket, of
which what is opened is copied first.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.durable import digests_below, sweep, sync_tree, write_file
from embeddings.fold_in.base import FoldIn, restore
from embeddings.lengths.encoder import Encoder
from embeddings.lengths.encoder import restore as restored_encoder
from embeddings.registry.approximate import FILE, ApproximateIndex, map_index
from embeddings.registry.checks import check_encoder, checked_fold_in
from embeddings.registry.errors import BadVersion, DamagedVersion, NotWritten
from embeddings.registry.indexing import NO_INDEX, IndexRule, write_index
from embeddings.registry.shards import (
    checked_entity,
    map_array,
    save_entity,
    save_lengths,
    shorter_name,
)
from embeddings.registry.vectors import FIELDS, Entity, Index, Vectors
from embeddings.storage.folder import STAGING
from embeddings.storage.objects import StoreError
from embeddings.storage.place import DamagedContent, Place

MANIFEST = "manifest.json"
DIGEST = re.compile(r"[0-9a-f]{64}")  # the name of a version's folder
REMEDY = "Publish the day again, which replaces damaged files, or restore them from a backup."


@dataclass(frozen=True)
class Files:
    """A version's manifest and its arrays, memory-mapped and read-only."""

    home: Path
    manifest: dict[str, Any]
    entities: dict[str, Entity]
    fold_in_arrays: dict[str, np.ndarray]
    indexes: dict[str, ApproximateIndex]

    @cached_property
    def shorter(self) -> dict[int, dict[str, Entity]]:
        """The entities at each learned length. Raises DamagedVersion."""
        state = self.manifest["content"].get("encoder")
        found: dict[int, dict[str, Entity]] = {}
        for length in map(int, state["depths"] if state else ()):
            entities = found.setdefault(length, {})
            for entity in self.entities:
                entities[entity] = _at_length(self, entity, length)
        return found

    @cached_property
    def encoder(self) -> Encoder:
        """What shortens further vectors, where lengths were learned. Raises DamagedVersion."""
        arrays = _arrays(self.home, self.manifest["content"]["files"], "encoder")
        try:
            return restored_encoder(arrays, self.manifest["content"]["encoder"])
        except LookupError as error:
            raise DamagedVersion(
                f"The encoder of {self.home} lacks {error}. Was the version published by a newer "
                "Evergreen?"
            ) from None

    @cached_property
    def fold_in(self) -> FoldIn:
        """The fold-in. Raises DamagedVersion if it cannot be restored.

        Restored at its first use: that imports the compiled code of its kind (about 0.6 s per
        process), which a service that only reads vectors does not need.
        """
        try:
            return restore(self.fold_in_arrays, self.manifest["content"]["fold_in"])
        except (ValueError, TypeError) as error:
            raise DamagedVersion(
                f"The fold-in of {self.home} cannot be used: {error} "
                "Was the version published by a newer Evergreen?"
            ) from None


@contextmanager
def publishing_files(
    place: Place,
    name: str,
    day: date,
    space: str,
    entities: Mapping[str, Vectors | Path],
    fold_in: FoldIn,
    lineage: dict[str, Any],
    index: IndexRule = NO_INDEX,
    encoder: Encoder | None = None,
) -> Iterator[dict[str, Any]]:
    """Write a version's files to a place; the block gets its manifest, and should record it.

    If the same content is already published, its files are replaced if they are damaged, and the
    block gets the manifest that is there. No other process can remove the files while the block
    runs. Raises BadVersion if the arrays cannot be a version, LowRecall, NotWritten.
    """
    stored_entities, fold_in_arrays = checked(entities, fold_in)
    dim = stored_entities[folded_entity(stored_entities)].vectors.shape[1]
    if encoder is not None:
        check_encoder(encoder, dim)

    def write(staging: Path) -> dict[str, Any]:
        for entity, source in entities.items():
            save_entity(staging / entity, source, stored_entities[entity])
        for field, array in fold_in_arrays.items():
            np.save(staging / f"fold_in.{field}.npy", array, allow_pickle=False)
        facts: dict[str, dict[str, Any]] = {}
        for entity, stored in stored_entities.items():
            facts[entity] = {**_counts(stored), **_index(staging, stored_entities, entity, index)}
        content = {"space": space, "dim": dim, "entities": facts, "fold_in": fold_in.scalars()}
        if encoder is not None:
            content["encoder"] = encoder.scalars()
            _write_lengths(staging, stored_entities, facts, encoder)
        return content

    with publishing_content(place, name, day, write, lineage) as manifest:
        yield manifest


@contextmanager
def publishing_content(
    place: Place,
    name: str,
    day: date,
    write: Callable[[Path], dict[str, Any]],
    lineage: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """As `publishing_files`, for content of any kind.

    write: writes checked arrays into a folder, as .npy files, and returns what else belongs to the
    content, as JSON values. Raises NotWritten.
    """
    # A folder per writer, next to its destination: a rename cannot cross file systems.
    staging = place.root / STAGING / uuid.uuid4().hex
    try:
        staging.mkdir(parents=True)
        content = {"name": name, "day": str(day), **write(staging)}
        content["files"] = digests_below(staging)
        digest = content_digest(content)
        manifest = {"digest": digest, "content": content, "lineage": lineage}
        write_file(staging / MANIFEST, _json(manifest).encode())
        sync_tree(staging)
        home = folder(place.root, name, day, digest)
        with locked_embedding(place, name):
            # The same content that is there and intact stays, with its lineage.
            if not place.holds(home) or faults(place, home):
                place.put(staging, home)
            yield read_manifest(place, home)
    except OSError as error:
        raise _not_written(place.root, f"{name}/{day}", error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        sweep(place.root / STAGING)


def _write_lengths(
    staging: Path,
    entities: Mapping[str, Entity],
    facts: dict[str, dict[str, Any]],
    encoder: Encoder,
) -> None:
    """Write the encoder and every entity at each of its lengths; name them in the facts."""
    for field, array in encoder.arrays().items():
        np.save(staging / f"encoder.{field}.npy", array, allow_pickle=False)
    for entity, stored in entities.items():
        save_lengths(staging / entity, stored, encoder)
        facts[entity]["lengths"] = {"method": encoder.method, "of": encoder.lengths}


def _index(
    staging: Path, entities: Mapping[str, Entity], entity: str, rule: IndexRule
) -> dict[str, Any]:
    """Write the entity's index, and return the facts of it; none without one. Raises LowRecall."""
    if not rule.applies(entities[entity]):
        return {}
    facts = write_index(staging / entity / FILE, entities, entity, rule)
    return {} if facts is None else {"index": facts}


def _not_written(root: Path, what: str, error: OSError) -> NotWritten:
    if isinstance(error, StoreError):
        return NotWritten(None, f"{what} is not published. {error}")
    # NumPy reports fewer bytes written than requested, but not why: the disk is full.
    number = error.errno or errno.ENOSPC
    cause = error.strerror or f"{os.strerror(number)}: {error}"
    message = (
        f"{what} is not published, and nothing of it is left: its files cannot be written below "
        f"{root}: {cause}. Free some space there, or make it writable, and publish again."
    )
    return NotWritten(number, message, error.filename)


def locked_embedding(place: Place, name: str) -> AbstractContextManager[None]:
    """The right to put and to discard versions of one embedding, for one process at a time."""
    return place.locked(place.root / name / ".lock")


def locked_removals(place: Place) -> AbstractContextManager[None]:
    """The right to remove versions, or to have none removed, for one process at a time."""
    return place.locked(place.root / ".removals.lock")


def content_folders(place: Place) -> set[Path]:
    """The addresses of the contents of versions, in the catalog or not."""
    found = set()
    for name in place.contents(place.root):
        for day in place.contents(place.root / name) if name != STAGING else ():
            home = place.root / name / day
            found |= {home / one for one in place.contents(home) if DIGEST.fullmatch(one)}
    return found


def checked(
    entities: Mapping[str, Vectors | Path], fold_in: FoldIn
) -> tuple[dict[str, Entity], dict[str, np.ndarray]]:
    """The entities and the fold-in's arrays, by name, as they are stored. Raises BadVersion."""
    columns = folded_entity(entities)
    folded = checked_entity(columns, entities[columns])
    dim = folded.vectors.shape[1]  # all entities have the length of these vectors
    stored = {columns: folded}
    for entity, source in entities.items():
        if entity != columns:
            stored[entity] = checked_entity(entity, source, dim)
    return stored, checked_fold_in(fold_in, len(folded.ids), dim)


def shown_entity(entities: Collection[str]) -> str:
    """The entity that lists and pages show first: 'producer', or the only one there is."""
    return next(iter(entities)) if len(entities) == 1 else "producer"


def folded_entity(entities: Collection[str]) -> str:
    """The entity whose rows are the columns of the fold-in's histories.

    It is 'producer', or the only one of a version with a single entity, such as 'word', whose
    history is a text. Raises BadVersion where there is neither.
    """
    if "producer" in entities or (len(entities) == 1 and "consumer" not in entities):
        return shown_entity(entities)
    raise BadVersion(
        "A version needs the entity 'producer', because the fold-in refers to its rows, or a "
        f"single one such as 'word'. Given: {sorted(entities)}."
    )


def folder(root: Path, name: str, day: date, digest: str) -> Path:
    """The folder with the files of a version."""
    return root / name / f"day={day}" / digest


def read_manifest(place: Place, home: Path) -> dict[str, Any]:
    """The manifest of a version. Raises DamagedVersion if it is missing or was changed."""
    try:
        manifest = json.loads(place.text(home, MANIFEST))
        # Compared with the folder's name too: a manifest from another version is intact in itself.
        intact = manifest["digest"] == home.name == content_digest(manifest["content"])
    except StoreError:
        raise
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DamagedVersion(f"{home / MANIFEST} cannot be read: {error}. {REMEDY}") from None
    if not intact:
        raise DamagedVersion(
            f"{home / MANIFEST} does not have the digest that it was published with. {REMEDY}"
        )
    return manifest


def open_files(place: Place, home: Path) -> Files:
    """Map a version's arrays. Raises DamagedVersion.

    Cached: files never change, so the same folder gives the same object. A folder that replaced a
    damaged one is opened afresh.
    """
    return _open_folder(place, home, identity(place, home))


@contextmanager
def opening(place: Place, home: Path) -> Iterator[dict[str, Any]]:
    """The manifest of a version whose files are below `home` while the block runs.

    Maps survive the deletion of their files. Raises DamagedVersion.
    """
    manifest = read_manifest(place, home)
    try:
        with place.using(home, manifest["content"]["files"]):
            yield manifest
    except DamagedContent as fault:
        raise DamagedVersion(f"{home}: {fault}. {REMEDY}") from None


def local(place: Place, home: Path) -> Path:
    """The local folder of a version; that of a bucket is copied, and stays until `Place.release`.

    Raises DamagedVersion.
    """
    if place.shared:
        with opening(place, home) as manifest:
            place.fetched(home, manifest["content"]["files"])
    return home


def identity(place: Place, home: Path) -> tuple[int, int]:
    """Tells a version's folder from another that was at the same path. Raises DamagedVersion."""
    if place.shared and not home.exists():
        with opening(place, home):
            pass  # it is copied
    try:
        status = home.stat()
    except OSError as error:
        raise DamagedVersion(
            f"{home} cannot be read: {error}. If the version was removed, use another one. {REMEDY}"
        ) from None
    return status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=64)  # versions; a map costs address space and open files, not memory
def _open_folder(place: Place, home: Path, identity: tuple[int, int]) -> Files:
    """As `open_files`. identity: that of the folder."""
    with opening(place, home) as manifest:
        content = manifest["content"]
        entities = {}
        for entity in content["entities"]:
            entities[entity] = _open_entity(home, content["files"], entity)
        arrays = _arrays(home, content["files"], "fold_in")
        files = Files(home, manifest, entities, arrays, _open_indexes(home, content))
        if "encoder" in content:
            # Mapped now: the maps of an opened version survive its deletion.
            _ = files.shorter, files.encoder
        return files


def open_versions() -> int:
    """How many versions this process has mapped."""
    return _open_folder.cache_info().currsize


def _open_entity(home: Path, files: Iterable[str], entity: str) -> Entity:
    # By the manifest, not by the folder: a file that does not belong to the version is ignored.
    ids_file = re.compile(rf"({entity}/shard-\d+)/ids\.npy")
    matches = [ids_file.fullmatch(name) for name in files]
    shards = []
    for shard_path in sorted(match[1] for match in matches if match):
        arrays = [mapped(home / shard_path / f"{field}.npy") for field in FIELDS]
        shards.append(Vectors(*arrays))
    if len(shards) == 1:
        return Entity(shards)  # its sorted ids are the index
    ids = mapped(home / entity / "ids.npy")
    rows = mapped(home / entity / "rows.npy")
    return Entity(shards, Index(ids, rows))


def _open_indexes(home: Path, content: dict[str, Any]) -> dict[str, ApproximateIndex]:
    """The indexes by entity, memory-mapped. Their bytes are checked at the first search."""
    indexes = {}
    for entity, facts in content["entities"].items():
        if "index" in facts:
            name = f"{entity}/{FILE}"
            try:
                indexes[entity] = map_index(home / name, content["files"][name], facts["index"])
            except (OSError, ValueError) as error:  # ValueError: the file is empty
                raise DamagedVersion(f"{home / name} cannot be read: {error}. {REMEDY}") from None
    return indexes


def _at_length(files: Files, entity: str, length: int) -> Entity:
    """An entity at a learned length: its ids, counts and index are those of the whole vectors."""
    shards = []
    homes = sorted(
        name.removesuffix("/ids.npy")
        for name in files.manifest["content"]["files"]
        if re.fullmatch(rf"{entity}/shard-\d+/ids\.npy", name)
    )
    for home, shard in zip(homes, files.entities[entity].shards, strict=True):
        vectors = mapped(files.home / home / shorter_name(length))
        shards.append(Vectors(shard.ids, vectors, shard.counts, shard.folded))
    return Entity(shards, files.entities[entity].index)


def _arrays(home: Path, files: Iterable[str], model: str) -> dict[str, np.ndarray]:
    """The arrays of a model, such as the fold-in, by name; memory-mapped."""
    arrays = {}
    for name in files:
        match = re.fullmatch(rf"{model}\.(\w+)\.npy", name)
        if match:
            arrays[match[1]] = mapped(home / name)
    return arrays


def mapped(path: Path) -> np.ndarray:
    """As `map_array`. Raises DamagedVersion."""
    try:
        return map_array(path)
    except (OSError, ValueError, EOFError) as error:  # EOFError: the file is empty
        raise DamagedVersion(f"{path} cannot be read: {error}. {REMEDY}") from None


def faults(place: Place, home: Path) -> list[str]:
    """What is wrong with the files of a version; empty if they are as they were published."""
    try:
        expected = read_manifest(place, home)["content"]["files"]
    except DamagedVersion as error:
        return [str(error)]
    found = []
    for name in sorted(expected):
        try:
            if place.digest(home, name) != expected[name]:
                found.append(f"{name} (changed)")
        except (FileNotFoundError, NotADirectoryError):
            found.append(f"{name} (missing)")
        except StoreError:  # a server that is gone says nothing about the file
            raise
        except OSError as error:
            found.append(f"{name} (cannot be read: {error.strerror})")
    return found


def _counts(entity: Entity) -> dict[str, int]:
    """The counts that the catalog stores, so that it can be shown without opening any file."""
    folded = 0
    engagements = 0
    for shard in entity.shards:
        folded += int(np.count_nonzero(shard.folded))
        engagements += int(shard.counts.sum(dtype=np.int64))  # an int32 sum could overflow
    return {"rows": len(entity), "folded": folded, "engagements": engagements}


def content_digest(content: dict[str, Any]) -> str:
    """The identity of a version: SHA-256 of its content.

    The lineage is not part of it: the same vectors from another run are the same version.
    """
    return hashlib.sha256(_json(content).encode()).hexdigest()


def _json(content: dict[str, Any]) -> str:
    """One text for equal content: digests are computed from it."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
