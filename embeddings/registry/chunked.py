"""An array in several parts, each mapped from its own file, that are read without joining them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np


class ChunkedArray:
    """Several arrays read as one: the rows of the first, then those of the second, and so on.

    `array[rows]` reads only these rows, `np.asarray(array)` copies all of them. parts: (n_i, ...),
    at least one, equal in all but the first axis.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = tuple(parts)
        lengths = [len(part) for part in self.parts]
        self.starts = np.cumsum([0, *lengths])  # the first row of each part, then the total
        self.shape = (int(self.starts[-1]), *self.parts[0].shape[1:])
        self.dtype = np.result_type(*self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        """A copy of the chosen rows, (m, ...). Raises IndexError for a row that does not exist.

        chosen: row numbers >= 0 (m,), a mask (n,) bool, or a slice.
        """
        rows = self._row_numbers(chosen)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        # In row order, the rows of one part are consecutive, so each part is indexed once.
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows, self.starts, sorter=order)
        spans = pairwise(bounds)
        for part, start, (first, last) in zip(self.parts, self.starts[:-1], spans, strict=True):
            if first < last:
                positions = order[first:last]
                out[positions] = part[rows[positions] - start]
        return out

    def _row_numbers(self, chosen: np.ndarray | slice) -> np.ndarray:
        """The chosen rows as numbers, (m,)."""
        if isinstance(chosen, slice):
            return np.arange(*chosen.indices(len(self)))
        rows = np.asarray(chosen)
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(
                f"Rows {rows.min()} to {rows.max()} were requested; "
                f"the array has rows 0 to {len(self) - 1}."
            )
        return rows

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts, dtype=dtype)


Rows: TypeAlias = np.ndarray | ChunkedArray


def parts_of(array: Rows) -> tuple[np.ndarray, ...]:
    """The arrays that `array` consists of."""
    return array.parts if isinstance(array, ChunkedArray) else (array,)


def joined(parts: Sequence[np.ndarray]) -> Rows:
    """The parts as one array. A single part is returned unchanged, which costs nothing."""
    return parts[0] if len(parts) == 1 else ChunkedArray(parts)


def columns(array: Rows, dim: int | None) -> Rows:
    """The first `dim` columns of an array (n, k) without a copy; None for all of them."""
    if dim is None or dim == array.shape[1]:
        return array
    return joined([part[:, :dim] for part in parts_of(array)])


def blocks(array: Rows, size: int) -> Iterator[np.ndarray]:
    """Views of consecutive rows, at most `size` each, none of which spans two parts."""
    for part in parts_of(array):
        for start in range(0, len(part), size):
            yield part[start : start + size]
