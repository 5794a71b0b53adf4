"""The files of a version: vectors that never change, opened as memory maps.

    registry/<name>/day=2022-04-25/<digest>/manifest.json         content, digests, lineage; written last
    registry/<name>/day=2022-04-25/<digest>/consumer/...          an entity's shards, see `shards`
    registry/<name>/day=2022-04-25/<digest>/fold_in.matrix.npy    an array of the fold-in; its kind is in the content

A version is written to a staging folder and renamed to the digest of its content: it is there whole or not at all, and
the same content in the same shards is the same folder whoever writes it, at the same time or again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.fold_in import FoldIn, restore
from embeddings.registry.checks import checked_fold_in
from embeddings.registry.errors import BadVersion, DamagedVersion
from embeddings.registry.shards import checked_entity, map_array, put_entity
from embeddings.registry.vectors import FIELDS, Entity, Index, Vectors

MANIFEST = "manifest.json"
STAGING = "_staging"
RUBBISH_AGE_S = 24 * 3600  # a staging folder this old belongs to a writer that was killed
FIRST_KIND = {"kind": "svd"}  # of the fold-in of versions that do not say


@dataclass(frozen=True)
class Files:
    """The arrays of a version, memory-mapped and read-only, and its manifest."""

    manifest: dict[str, Any]
    entities: dict[str, Entity]
    fold_in: FoldIn


def publish_files(
    root: Path,
    name: str,
    day: date,
    space: str,
    entities: Mapping[str, Vectors | Path],
    fold_in: FoldIn,
    lineage: dict[str, Any],
) -> dict[str, Any]:
    """Put a version's files below the root and return its manifest; where the content is there already, that one's.

    Raises BadVersion when the arrays cannot be a version.
    """
    whole, arrays = checked(entities, fold_in)
    staging = root / STAGING / uuid.uuid4().hex
    try:
        staging.mkdir(parents=True)
        for entity, source in entities.items():
            put_entity(staging / entity, source, whole[entity])
        for field, array in arrays.items():
            np.save(staging / f"fold_in.{field}.npy", array, allow_pickle=False)
        content = {
            "name": name,
            "day": str(day),
            "space": space,
            "dim": whole["producer"].vectors.shape[1],
            "entities": {entity: _facts(its) for entity, its in sorted(whole.items())},
            "fold_in": fold_in.scalars(),
            "files": {
                str(path.relative_to(staging)): _sealed(path)
                for path in sorted(staging.rglob("*.npy"))
            },
        }
        digest = content_digest(content)
        _write(
            staging / MANIFEST,
            _json({"digest": digest, "content": content, "lineage": lineage}).encode(),
        )
        for names in [staging, *filter(Path.is_dir, staging.rglob("*"))]:
            _sync(names)
        home = folder(root, name, day, digest)
        _move(staging, home)
        return read_manifest(home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _sweep(root / STAGING)


def checked(
    entities: Mapping[str, Vectors | Path], fold_in: FoldIn
) -> tuple[dict[str, Entity], dict[str, np.ndarray]]:
    """Every entity, its shards as they are stored, and the arrays of the fold-in by name. Raises BadVersion."""
    if "producer" not in entities:
        raise BadVersion(
            f"A version needs the entity 'producer', which the fold-in speaks of. Given: {sorted(entities)}."
        )
    producer = checked_entity("producer", entities["producer"])
    dim = producer.vectors.shape[1]
    others = {
        e: checked_entity(e, source, dim) for e, source in entities.items() if e != "producer"
    }
    return {"producer": producer, **others}, checked_fold_in(fold_in, len(producer.ids), dim)


def folder(root: Path, name: str, day: date, digest: str) -> Path:
    """Where the files of a version are."""
    return root / name / f"day={day}" / digest


def read_manifest(home: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((home / MANIFEST).read_text())
        intact = manifest["digest"] == home.name == content_digest(manifest["content"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DamagedVersion(f"{home / MANIFEST} cannot be read: {error}. {_REMEDY}") from None
    if not intact:
        raise DamagedVersion(
            f"{home / MANIFEST} does not have the digest that it was published with. {_REMEDY}"
        )
    return manifest


@lru_cache(maxsize=64)
def open_files(home: Path) -> Files:
    """Map a version's arrays; the same object for the same folder, as they never change. Raises DamagedVersion."""
    manifest = read_manifest(home)
    content = manifest["content"]
    entities = {
        entity: _open_entity(home, content["files"], entity) for entity in content["entities"]
    }
    return Files(manifest, entities, _open_fold_in(home, content))


def _open_entity(home: Path, files: Iterable[str], entity: str) -> Entity:
    """Its shards; of a version from before there were any, the arrays beside the manifest."""
    last = re.compile(rf"({entity}/shard-\d+/|{entity}\.)ids\.npy")
    prefixes = sorted(found[1] for name in files if (found := last.fullmatch(name)))
    shards = [
        Vectors(*(_mapped(home / f"{prefix}{field}.npy") for field in FIELDS))
        for prefix in prefixes
    ]
    if len(shards) == 1:
        return Entity(shards)
    return Entity(
        shards, Index(_mapped(home / entity / "ids.npy"), _mapped(home / entity / "rows.npy"))
    )


def _open_fold_in(home: Path, content: dict[str, Any]) -> FoldIn:
    names = [
        found[1]
        for name in content["files"]
        if (found := re.fullmatch(r"fold_in\.(\w+)\.npy", name))
    ]
    arrays = {name: _mapped(home / f"fold_in.{name}.npy") for name in names}
    try:
        return restore(arrays, content.get("fold_in", FIRST_KIND))
    except (ValueError, TypeError) as error:
        raise DamagedVersion(
            f"The fold-in of {home} cannot be used: {error} Was it made by a newer Evergreen?"
        ) from None


def _mapped(path: Path) -> np.ndarray:
    try:
        return map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedVersion(f"{path} cannot be read: {error}. {_REMEDY}") from None


def verify_files(home: Path) -> dict[str, str]:
    """Read every file of a version and compare digests; returns them. Raises DamagedVersion naming all that differ."""
    expected = read_manifest(home)["content"]["files"]
    found = {
        name: file_digest(home / name) if (home / name).is_file() else "missing"
        for name in expected
    }
    if wrong := sorted(name for name in expected if found[name] != expected[name]):
        faults = ", ".join(
            f"{name} ({'missing' if found[name] == 'missing' else 'changed'})" for name in wrong
        )
        raise DamagedVersion(f"{home}: {faults}. {_REMEDY}")
    return found


_REMEDY = "Restore it from a backup, or delete this folder and publish the day again."


def _facts(entity: Entity) -> dict[str, int]:
    """What the catalog tells about an entity without opening its files."""
    folded = sum(int(np.count_nonzero(shard.folded)) for shard in entity.shards)
    engagements = sum(int(shard.counts.sum(dtype=np.int64)) for shard in entity.shards)
    return {"rows": len(entity), "folded": folded, "engagements": engagements}


def content_digest(content: dict[str, Any]) -> str:
    """The identity of a version: SHA-256 of what it holds, its lineage left out."""
    return hashlib.sha256(_json(content).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sealed(path: Path) -> str:
    """See that a file is on the disk; returns its digest."""
    _sync(path)
    return file_digest(path)


def _write(path: Path, data: bytes) -> None:
    """Write a small file through to the disk, by rename."""
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)


def _move(staging: Path, home: Path) -> None:
    """Rename the staged folder to its place; if another writer of the same content was first, theirs stays."""
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staging, home)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return
    _sync(home.parent)  # the name too must survive a power cut: the catalog will point at it


def _sync(path: Path) -> None:
    """Write a file or the names in a folder through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(staging_root: Path) -> None:
    """Delete what killed writers left; whoever writes right now is younger."""
    for left in staging_root.iterdir():
        try:
            if time.time() - left.stat().st_mtime > RUBBISH_AGE_S:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
