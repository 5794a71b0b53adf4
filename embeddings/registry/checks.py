"""What can be a version: every array is looked at before it is published. All raise BadVersion naming the array."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from embeddings.fold_in import FoldIn, restore
from embeddings.registry.chunked import blocks
from embeddings.registry.errors import BadVersion
from embeddings.registry.vectors import FIELDS, Vectors

BLOCK = 1 << 16  # rows that are looked at together


def checked_shard(name: str, given: Vectors, dim: int | None = None) -> Vectors:
    """A shard as it is stored: narrow ids, little-endian, contiguous. dim: the length of its vectors; None: any."""
    ids = _checked_ids(f"{name}.ids", given.ids)
    n, dim = len(ids), (*given.vectors.shape, 0)[1] if dim is None else dim
    return Vectors(
        ids,
        _checked(f"{name}.vectors", given.vectors, (n, dim), "<f4"),
        _checked(f"{name}.counts", given.counts, (n,), "<i4"),
        _checked(f"{name}.folded", given.folded, (n,), "?"),
    )


def checked_as_written(name: str, given: Vectors, dim: int | None = None) -> Vectors:
    """A shard on disk: it must be, to the bit, what `write_shard` makes of it."""
    stored = checked_shard(name, given, dim)
    for field in FIELDS:
        its, expected = getattr(given, field), getattr(stored, field)
        if its.dtype != expected.dtype or not its.flags.c_contiguous:
            raise BadVersion(
                f"{name}.{field} is stored as {its.dtype}, not as {expected.dtype}; use write_shard."
            )
    return given


def checked_fold_in(model: FoldIn, producers: int, dim: int) -> dict[str, np.ndarray]:
    """The arrays of a fold-in as they are stored, by name. It must take histories of these producers to (n, dim)."""
    arrays, scalars = model.arrays(), model.scalars()
    if model.n_producers != producers:
        raise BadVersion(
            f"The fold-in speaks of {model.n_producers} producers, the version has {producers}."
        )
    for name, array in arrays.items():
        if any(side not in (producers, dim) for side in array.shape):
            raise BadVersion(
                f"fold_in.{name} of shape {array.shape} is not of the version's {producers} producers "
                f"and {dim} dimensions."
            )
        arrays[name] = _checked(f"fold_in.{name}", array, array.shape, f"<f{array.dtype.itemsize}")
    if bad := {
        name: value
        for name, value in scalars.items()
        if not isinstance(value, str) and not math.isfinite(value)
    }:
        raise BadVersion(f"The fold-in's scalars must be finite; given: {bad}.")
    try:
        rows = restore(arrays, scalars).fold(sp.csr_matrix((0, producers), dtype=np.float32))
    except (ValueError, TypeError) as error:
        raise BadVersion(f"The fold-in cannot be used: {error}") from None
    if rows.shape != (0, dim):
        raise BadVersion(
            f"The fold-in makes vectors of length {rows.shape[1]}, the version's are of length {dim}."
        )
    return arrays


def _checked_ids(name: str, ids: np.ndarray) -> np.ndarray:
    """Ids in the narrowest 'S' that holds them, so that the same ids are the same bytes."""
    if ids.dtype.kind != "S" or ids.ndim != 1:
        raise BadVersion(
            f"{name} must be an array of kind 'S', not {ids.dtype} of shape {ids.shape}."
        )
    if len(falls := np.flatnonzero(ids[1:] <= ids[:-1])):
        before, after = ids[falls[0] : falls[0] + 2].tolist()
        raise BadVersion(
            f"{name} must be sorted and unique: {after!r} follows {before!r} in row {falls[0] + 1}."
        )
    if len(ids) and not ids[0]:
        raise BadVersion(f"{name} holds an empty id in row 0.")
    try:
        for block in blocks(ids, BLOCK):
            np.strings.decode(block, "utf-8")
    except UnicodeDecodeError as error:
        raise BadVersion(f"{name} must be UTF-8: {error}.") from None
    width = max((int(np.strings.str_len(block).max()) for block in blocks(ids, BLOCK)), default=1)
    return np.ascontiguousarray(ids, f"S{width}")


def _checked(name: str, array: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A finite array of this shape, as this type."""
    dtype = np.dtype(kind)
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise BadVersion(
            f"{name} must be {dtype} of shape {shape}, not {array.dtype} of shape {array.shape}."
        )
    for number, block in enumerate(blocks(array, BLOCK)):
        if not np.isfinite(block).all():
            row = number * BLOCK + int(np.argwhere(~np.isfinite(block))[0][0])
            raise BadVersion(f"{name} must be finite: row {row} is not.")
    return np.ascontiguousarray(array, dtype)
