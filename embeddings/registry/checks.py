"""Validation before publishing. Every array is checked; the BadVersion raised names the array."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from embeddings.fold_in.base import FoldIn, restore
from embeddings.registry.chunked import blocks
from embeddings.registry.errors import BadVersion
from embeddings.registry.vectors import FIELDS, Vectors

BLOCK = 1 << 16  # rows checked together, which bounds the temporary arrays


def checked_shard(name: str, given: Vectors, dim: int | None = None) -> Vectors:
    """A shard in the types and layout in which it is stored. Raises BadVersion.

    Ids are as narrow as they can be, numbers little-endian, arrays contiguous. dim: the required
    length of its vectors; None accepts any.
    """
    ids = _checked_ids(f"{name}.ids", given.ids)
    n = len(ids)
    if dim is None:
        # Without a second axis any length fails the check below, which then names the array.
        dim = given.vectors.shape[1] if given.vectors.ndim > 1 else 0
    return Vectors(
        ids,
        _checked(f"{name}.vectors", given.vectors, (n, dim), "<f4"),
        _checked(f"{name}.counts", given.counts, (n,), "<i4"),
        _checked(f"{name}.folded", given.folded, (n,), "?"),
    )


def checked_as_written(name: str, given: Vectors, dim: int | None = None) -> Vectors:
    """The given shard, which must already have the stored types and layout. Raises BadVersion.

    Its files are published unchanged, so nothing can be converted.
    """
    stored = checked_shard(name, given, dim)
    for field in FIELDS:
        array = getattr(given, field)
        expected = getattr(stored, field)
        if array.dtype != expected.dtype or not array.flags.c_contiguous:
            raise BadVersion(
                f"{name}.{field} is stored as {array.dtype}, not as {expected.dtype}; "
                "use write_shard."
            )
    return given


def checked_fold_in(model: FoldIn, producers: int, dim: int) -> dict[str, np.ndarray]:
    """The arrays of a fold-in as they are stored, by name. Raises BadVersion.

    The fold-in must compute vectors of length dim from histories over this many producers.
    """
    if model.n_producers != producers:
        raise BadVersion(
            f"The fold-in is for {model.n_producers} producers, the version has {producers}."
        )
    arrays = {}
    for name, array in model.arrays().items():
        if not set(array.shape) <= {producers, dim}:
            raise BadVersion(
                f"fold_in.{name} has shape {array.shape}, which does not match the version's "
                f"{producers} producers and {dim} dimensions."
            )
        stored_type = f"<f{array.dtype.itemsize}"
        arrays[name] = _checked(f"fold_in.{name}", array, array.shape, stored_type)
    scalars = model.scalars()
    _check_finite(scalars)
    # Restored from its arrays and used on no rows: what is published must work when it is read.
    try:
        rows = restore(arrays, scalars).fold(sp.csr_matrix((0, producers), dtype=np.float32))
    except (ValueError, TypeError) as error:
        raise BadVersion(f"The fold-in cannot be used: {error}") from None
    if rows.shape != (0, dim):
        raise BadVersion(
            f"The fold-in returns vectors of length {rows.shape[1]}, "
            f"but the version's vectors have length {dim}."
        )
    return arrays


def _check_finite(scalars: dict[str, str | float]) -> None:
    """Raise BadVersion unless all numbers are finite: the manifest's JSON has no NaN."""
    bad = {}
    for name, value in scalars.items():
        if not isinstance(value, str) and not math.isfinite(value):
            bad[name] = value
    if bad:
        raise BadVersion(f"The fold-in's scalars must be finite; given: {bad}.")


def _checked_ids(name: str, ids: np.ndarray) -> np.ndarray:
    """Ids in the narrowest 'S' type that holds them, so that equal ids are equal bytes."""
    if ids.dtype.kind != "S" or ids.ndim != 1:
        raise BadVersion(
            f"{name} must be an array of kind 'S', not {ids.dtype} of shape {ids.shape}."
        )
    # Strictly ascending is sorted and unique in one pass.
    unordered = np.flatnonzero(ids[1:] <= ids[:-1])
    if len(unordered):
        first = unordered[0]
        before, after = ids[first : first + 2].tolist()
        raise BadVersion(
            f"{name} must be sorted and unique: {after!r} follows {before!r} in row {first + 1}."
        )
    if len(ids) and not ids[0]:  # it sorts first
        raise BadVersion(f"{name} holds an empty id in row 0.")
    width = 1
    try:
        for block in blocks(ids, BLOCK):
            np.strings.decode(block, "utf-8")  # raises; readers decode ids without a check
            width = max(width, int(np.strings.str_len(block).max()))
    except UnicodeDecodeError as error:
        raise BadVersion(f"{name} must be UTF-8: {error}.") from None
    return np.ascontiguousarray(ids, f"S{width}")


def _checked(name: str, array: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A finite array of this shape, converted to this type."""
    dtype = np.dtype(kind)
    # "same_kind" accepts float64 for float32, but not a float for an integer.
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise BadVersion(
            f"{name} must be {dtype} of shape {shape}, not {array.dtype} of shape {array.shape}."
        )
    for number, block in enumerate(blocks(array, BLOCK)):
        finite = np.isfinite(block)
        if not finite.all():
            row = number * BLOCK + int(np.argwhere(~finite)[0][0])
            raise BadVersion(f"{name} must be finite: row {row} is not.")
    return np.ascontiguousarray(array, dtype)
