"""An array in pieces along its rows, each mapped from a file of its own: the whole is never put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np


class Pieces:
    """The rows of several arrays one after the other. `p[rows]` reads these rows alone, np.asarray(p) all of them."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *map(len, parts)])  # row at which each part begins, and the end
        self.shape = (int(self.starts[-1]), *self.parts[0].shape[1:])
        self.dtype = np.result_type(*self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        """The chosen rows, copied. chosen: row numbers >= 0 (m,), a mask (n,), or a slice. Raises IndexError."""
        rows = (
            np.arange(*chosen.indices(len(self)))
            if isinstance(chosen, slice)
            else np.asarray(chosen)
        )
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(
                f"Rows {rows.min()} to {rows.max()} were asked for; there are 0 to {len(self) - 1}."
            )
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows, self.starts, sorter=order)
        for part, start, first, last in zip(
            self.parts, self.starts, bounds, bounds[1:], strict=False
        ):
            if first < last:
                mine = order[first:last]
                out[mine] = part[rows[mine] - start]
        return out

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts, dtype=dtype)


Rows: TypeAlias = np.ndarray | Pieces


def parts_of(array: Rows) -> tuple[np.ndarray, ...]:
    """The arrays that it is made of."""
    return array.parts if isinstance(array, Pieces) else (array,)


def joined(parts: Sequence[np.ndarray]) -> Rows:
    """One array of them all; of a single one that itself, without any detour."""
    return parts[0] if len(parts) == 1 else Pieces(parts)


def blocks(array: Rows, size: int) -> Iterator[np.ndarray]:
    """Views of consecutive rows, at most `size` of them and never from two parts."""
    for part in parts_of(array):
        for start in range(0, len(part), size):
            yield part[start : start + size]
