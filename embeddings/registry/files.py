"""The files of a version: vectors that never change, opened as memory maps.

    registry/<name>/day=2022-04-25/<digest>/manifest.json             content, digests, lineage; written last
    registry/<name>/day=2022-04-25/<digest>/consumer.vectors.npy ...  one array a file

A version is written to a staging folder and renamed to the digest of its content: it is there whole or not at all, and
the same content is the same folder whoever writes it, at the same time or again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.registry.errors import BadVersion, DamagedVersion

MANIFEST = "manifest.json"
STAGING = "_staging"
RUBBISH_AGE_S = 24 * 3600  # a staging folder this old belongs to a writer that was killed
NEARBY = 200  # sorted ids on either side among which a near miss is looked for


@dataclass(frozen=True)
class Vectors:
    """The vectors of one entity: row i of every array speaks of ids[i].

    ids: (n,) 'S', sorted bytewise, unique, UTF-8. vectors: (n, k) float32. counts: (n,) int32, engagements behind each.
    folded: (n,) bool, True where the vector was folded in instead of fitted.
    """

    ids: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each id, -1 where it has none. ids: (m,) texts or 'S'. Returns (m,) int64."""
        wanted = encode_ids(ids)
        narrow = wanted.astype(self.ids.dtype)  # against wider ids NumPy would first copy all of ours to that width
        at = np.minimum(np.searchsorted(self.ids, narrow), len(self.ids) - 1)  # one call, whatever their number
        return np.where(self.ids[at] == wanted, at, -1)

    def near(self, wanted: str, n: int = 3) -> list[str]:
        """Up to n ids that look like this one, among those that sort next to it."""
        at = int(np.searchsorted(self.ids, encode_ids([wanted]).astype(self.ids.dtype))[0])
        around = [i.decode() for i in self.ids[max(0, at - NEARBY) : at + NEARBY].tolist()]
        return get_close_matches(wanted, around, n)

    @cached_property
    def norms(self) -> np.ndarray:
        """Length of each vector, (n,) float32; computed at the first search."""
        return np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors))


@dataclass(frozen=True)
class FoldIn:
    """What turns a history into a vector; row j speaks of the version's producer j.

    matrix: (n_producers, k) float32, V Σ^(-1/2). column_sums: (n_producers,) float64, of the fitted matrix.
    """

    matrix: np.ndarray
    column_sums: np.ndarray


@dataclass(frozen=True)
class Files:
    """The arrays of a version, memory-mapped and read-only, and its manifest."""

    manifest: dict[str, Any]
    entities: dict[str, Vectors]
    fold_in: FoldIn


def encode_ids(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Ids as an 'S' array of their UTF-8 bytes; an 'S' array is returned as it is."""
    texts = np.asarray(ids)
    if texts.dtype.kind == "S":
        return texts
    texts = texts.astype(np.str_)
    try:
        return texts.astype(np.bytes_)  # ASCII, the usual case, three times as fast
    except UnicodeEncodeError:
        return np.strings.encode(texts, "utf-8", "surrogatepass")


def publish_files(
    root: Path, name: str, day: date, space: str, entities: dict[str, Vectors], fold_in: FoldIn, lineage: dict[str, Any]
) -> dict[str, Any]:
    """Put a version's files below the root and return its manifest; where the content is there already, that one's.

    Raises BadVersion when the arrays cannot be a version.
    """
    arrays = checked(entities, fold_in)
    staging = root / STAGING / uuid.uuid4().hex
    try:
        staging.mkdir(parents=True)
        files = {f"{key}.npy": _save(staging / f"{key}.npy", array) for key, array in sorted(arrays.items())}
        content = {
            "name": name,
            "day": str(day),
            "space": space,
            "dim": fold_in.matrix.shape[1],
            "entities": {entity: _facts(vectors) for entity, vectors in sorted(entities.items())},
            "files": files,
        }
        digest = content_digest(content)
        _write(staging / MANIFEST, _json({"digest": digest, "content": content, "lineage": lineage}).encode())
        home = folder(root, name, day, digest)
        _move(staging, home)
        return read_manifest(home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _sweep(root / STAGING)


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
        raise DamagedVersion(f"{home / MANIFEST} does not have the digest that it was published with. {_REMEDY}")
    return manifest


@lru_cache(maxsize=64)
def open_files(home: Path) -> Files:
    """Map a version's arrays; the same object for the same folder, as they never change. Raises DamagedVersion."""
    manifest = read_manifest(home)

    def mapped(key: str) -> np.ndarray:
        path = home / f"{key}.npy"
        try:
            # a plain view: indexing np.memmap itself costs several times as much
            return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise DamagedVersion(f"{path} cannot be read: {error}. {_REMEDY}") from None

    entities = {
        entity: Vectors(*(mapped(f"{entity}.{field}") for field in ("ids", "vectors", "counts", "folded")))
        for entity in manifest["content"]["entities"]
    }
    return Files(manifest, entities, FoldIn(mapped("fold_in.matrix"), mapped("fold_in.column_sums")))


def verify_files(home: Path) -> dict[str, str]:
    """Read every file of a version and compare digests; returns them. Raises DamagedVersion naming all that differ."""
    expected = read_manifest(home)["content"]["files"]
    found = {name: file_digest(home / name) if (home / name).is_file() else "missing" for name in expected}
    if wrong := sorted(name for name in expected if found[name] != expected[name]):
        faults = ", ".join(f"{name} ({'missing' if found[name] == 'missing' else 'changed'})" for name in wrong)
        raise DamagedVersion(f"{home}: {faults}. {_REMEDY}")
    return found


_REMEDY = "Restore it from a backup, or delete this folder and publish the day again."


def checked(entities: dict[str, Vectors], fold_in: FoldIn) -> dict[str, np.ndarray]:
    """The arrays as they are stored, by file name; raises BadVersion naming the array and what is wrong with it."""
    if "producer" not in entities:
        raise BadVersion(
            f"A version needs the entity 'producer', which the fold-in speaks of. Given: {sorted(entities)}."
        )
    arrays: dict[str, np.ndarray] = {}
    for entity, given in entities.items():
        ids = _checked_ids(f"{entity}.ids", given.ids)
        n, dim = len(ids), fold_in.matrix.shape[1]
        arrays |= {
            f"{entity}.ids": ids,
            f"{entity}.vectors": _checked(f"{entity}.vectors", given.vectors, (n, dim), np.float32),
            f"{entity}.counts": _checked(f"{entity}.counts", given.counts, (n,), np.int32),
            f"{entity}.folded": _checked(f"{entity}.folded", given.folded, (n,), np.bool_),
        }
    n, dim = arrays["producer.vectors"].shape
    return arrays | {
        "fold_in.matrix": _checked("fold_in.matrix", fold_in.matrix, (n, dim), np.float32),
        "fold_in.column_sums": _checked("fold_in.column_sums", fold_in.column_sums, (n,), np.float64),
    }


def _checked_ids(name: str, ids: np.ndarray) -> np.ndarray:
    """Ids in the narrowest 'S' that holds them, so that the same ids are the same bytes."""
    if ids.dtype.kind != "S" or ids.ndim != 1 or not len(ids):
        raise BadVersion(f"{name} must be a filled array of kind 'S', not {ids.dtype} of shape {ids.shape}.")
    if len(falls := np.flatnonzero(ids[1:] <= ids[:-1])):
        before, after = ids[falls[0] : falls[0] + 2].tolist()
        raise BadVersion(f"{name} must be sorted and unique: {after!r} follows {before!r} in row {falls[0] + 1}.")
    if not ids[0]:
        raise BadVersion(f"{name} holds an empty id in row 0.")
    try:
        np.strings.decode(ids, "utf-8")
    except UnicodeDecodeError as error:
        raise BadVersion(f"{name} must be UTF-8: {error}.") from None
    return ids.astype(f"S{np.strings.str_len(ids).max()}")


def _checked(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise BadVersion(
            f"{name} must be {np.dtype(dtype)} of shape {shape}, not {array.dtype} of shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise BadVersion(f"{name} must be finite: row {np.argwhere(~np.isfinite(array))[0][0]} is not.")
    return np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<"))


def _facts(vectors: Vectors) -> dict[str, int]:
    """What the catalog tells about an entity without opening its files."""
    folded = int(np.count_nonzero(vectors.folded))
    return {"rows": len(vectors.ids), "folded": folded, "engagements": int(vectors.counts.sum(dtype=np.int64))}


def content_digest(content: dict[str, Any]) -> str:
    """The identity of a version: SHA-256 of what it holds, its lineage left out."""
    return hashlib.sha256(_json(content).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _save(path: Path, array: np.ndarray) -> str:
    """Write an array through to the disk; returns the file's digest."""
    with path.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
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
    handle = os.open(home.parent, os.O_RDONLY)
    try:
        os.fsync(handle)  # the name too must survive a power cut: the catalog will point at it
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
