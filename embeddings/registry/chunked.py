"""An array in chunks along its rows, each mapped from its own file: they are never concatenated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np


class ChunkedArray:
    """Several arrays read as one: the rows of the first, then those of the second, and so on.

    `array[rows]` reads only these rows, `np.asarray(array)` all of them.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = tuple(parts)
        lengths = [len(part) for part in self.parts]
        self.starts = np.cumsum([0, *lengths])  # first row of each part, then the total
        self.shape = (int(self.starts[-1]), *self.parts[0].shape[1:])
        self.dtype = np.result_type(*self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        """A copy of the chosen rows. Raises IndexError.

        chosen: row numbers >= 0 (m,), a mask (n,), or a slice.
        """
        rows = self._row_numbers(chosen)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        # Sorted by row, the rows of one part are consecutive: each part is read once.
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows, self.starts, sorter=order)
        spans = pairwise(bounds)
        for part, start, (first, last) in zip(self.parts, self.starts[:-1], spans, strict=True):
            if first < last:
                positions = order[first:last]
                out[positions] = part[rows[positions] - start]
        return out

    def _row_numbers(self, chosen: np.ndarray | slice) -> np.ndarray:
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
    """The arrays that it consists of."""
    return array.parts if isinstance(array, ChunkedArray) else (array,)


def joined(parts: Sequence[np.ndarray]) -> Rows:
    """The parts as one array; a single part is returned unchanged, so reading it costs nothing."""
    return parts[0] if len(parts) == 1 else ChunkedArray(parts)


def blocks(array: Rows, size: int) -> Iterator[np.ndarray]:
    """Views of consecutive rows, at most `size` each, none of which spans two parts."""
    for part in parts_of(array):
        for start in range(0, len(part), size):
            yield part[start : start + size]
