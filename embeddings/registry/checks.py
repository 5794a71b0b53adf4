"""Validation before publishing. Every array is checked; the BadVersion raised names the array."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp

from embeddings.fold_in.base import FoldIn, restore
from embeddings.lengths.encoder import Encoder
from embeddings.registry.chunked import blocks
from embeddings.registry.errors import BadVersion
from embeddings.registry.vectors import FIELDS, Vectors

TEXT_LENGTH = 200  # bytes of a text in a column of features
EXACT = 2**53  # the largest integer up to which float64 has all of them
BLOCK = 1 << 16  # rows checked together, which bounds the temporary arrays


def checked_shard(name: str, given: Vectors, dim: int | None = None) -> Vectors:
    """A shard in the types and layout in which it is stored. Raises BadVersion.

    Ids are as narrow as they can be, numbers little-endian, arrays contiguous. dim: the required
    length of its vectors; None accepts any.
    """
    ids = checked_ids(f"{name}.ids", given.ids)
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
    lengths = {producers, dim} | getattr(model, "lengths", set())
    for name, array in model.arrays().items():
        if not set(array.shape) <= lengths:
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


def check_encoder(encoder: Encoder, dim: int) -> None:
    """Raise BadVersion unless it makes vectors of length `dim` shorter, by finite numbers."""
    wrong = [length for length in encoder.lengths if not 1 <= length < dim]
    if encoder.whole != dim or wrong or not encoder.lengths:
        raise BadVersion(
            f"The encoder makes vectors of length {encoder.whole} into ones of {encoder.lengths}, "
            f"but the version's have length {dim}: give it an encoder of vectors of that length, "
            "with at least one shorter length and no other."
        )
    widths = [dim]
    for layer, (weight, bias) in enumerate(zip(encoder.weights, encoder.biases, strict=True)):
        widths.append(len(bias))
        _checked(f"encoder.weight_{layer}", weight, (widths[layer], widths[-1]), "<f4")
        _checked(f"encoder.bias_{layer}", bias, (widths[-1],), "<f4")
    for length, depth in encoder.depths.items():
        if depth >= len(widths) or length > widths[depth] or len(encoder.rectified) < depth:
            raise BadVersion(
                f"The encoder has no length {length} after {depth} layers; its layers have the "
                f"widths {widths}."
            )


def checked_table(
    entity: str, ids: np.ndarray, columns: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The ids and the columns of a table of features as they are stored. Raises BadVersion."""
    stored_ids = checked_ids(f"{entity}.ids", ids)
    if not len(stored_ids):
        raise BadVersion(f"{entity} has no rows; a table of features needs at least one.")
    if not columns:
        raise BadVersion("A table of features needs at least one column.")
    stored = {}
    for name, column in columns.items():
        stored[name] = _checked_column(name, column, len(stored_ids))
    return stored_ids, stored


def _checked_column(name: str, column: np.ndarray, rows: int) -> np.ndarray:
    """A column of numbers, of which NaN stands for a missing one, or of short texts."""
    kind = column.dtype.kind
    most = {"b": 1, "i": 8, "u": 8, "f": 8, "S": TEXT_LENGTH}.get(kind, 0)  # bytes of one value
    if column.shape != (rows,) or column.dtype.itemsize > most:
        raise BadVersion(
            f"The column {name!r} must be {rows} numbers or texts (kind 'S') of at most "
            f"{TEXT_LENGTH} bytes, not {column.dtype} of shape {column.shape}."
        )
    if kind == "S":
        return _narrow(f"The column {name!r}", column)
    beyond = np.isinf(column) if kind == "f" else np.zeros(0, bool)
    if kind in "iu":
        # Readers get numbers as floats, so that a missing one can be NaN.
        beyond = (column > EXACT) | (column < -EXACT)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise BadVersion(
            f"The column {name!r} must be finite and, if it holds integers, at most 2^53: "
            f"row {row} is {column[row]}."
        )
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<"))


def _check_finite(scalars: dict[str, str | float]) -> None:
    """Raise BadVersion unless all numbers are finite: the manifest's JSON has no NaN."""
    bad = {}
    for name, value in scalars.items():
        if not isinstance(value, str) and not math.isfinite(value):
            bad[name] = value
    if bad:
        raise BadVersion(f"The fold-in's scalars must be finite; given: {bad}.")


def checked_ids(name: str, ids: np.ndarray) -> np.ndarray:
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
    return _narrow(name, ids)


def _narrow(name: str, texts: np.ndarray) -> np.ndarray:
    """Texts in the narrowest 'S' type that holds them. Raises BadVersion unless they are UTF-8."""
    width = 1
    try:
        for block in blocks(texts, BLOCK):
            np.strings.decode(block, "utf-8")  # raises; readers decode texts without a check
            width = max(width, int(np.strings.str_len(block).max()))
    except UnicodeDecodeError as error:
        raise BadVersion(f"{name} must be UTF-8: {error}.") from None
    return np.ascontiguousarray(texts, f"S{width}")


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
