"""Columns in files without a name, for what is too long for memory.

A column is read as an array is, by slices, so that one function serves rows in memory and rows on
disk. The files are gone when their scratch is closed, or the process ends, however it does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from models.blocks import blocks

PIECE = 1 << 18  # rows that are in memory at a time


class Rows(Protocol):
    """One value for each row, in memory or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Consecutive rows, in memory."""


class Column:
    """Rows in a part of a file: column[a:b] reads them, `append` adds some at the end."""

    def __init__(self, file: int, dtype: np.dtype, start: int = 0) -> None:
        """file: an open file's number. start: rows of the file before the first one."""
        self.file = file
        self.dtype = dtype
        self.start = start
        self.rows = 0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last, step = rows.indices(self.rows)
        assert step == 1, "only consecutive rows are read"
        found = np.empty(max(last - first, 0), self.dtype)
        data = found.view(np.uint8).data
        at = (self.start + first) * self.dtype.itemsize
        done = 0
        while done < len(data):
            read = os.preadv(self.file, [data[done:]], at + done)
            assert read, "a column has all its rows"
            done += read
        return found

    def append(self, values: np.ndarray) -> None:
        """Add rows. Raises OSError where the disk is full."""
        data = np.ascontiguousarray(values, self.dtype).view(np.uint8).data
        at = (self.start + self.rows) * self.dtype.itemsize
        done = 0
        while done < len(data):
            done += os.pwrite(self.file, data[done:], at + done)
        self.rows += len(values)


class Field:
    """One field of rows of a structured type."""

    def __init__(self, rows: Rows, name: str) -> None:
        self.rows = rows
        self.name = name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.rows[rows][self.name].copy()


class Scratch:
    """Where columns are made; a context manager, which removes them at its end."""

    def __init__(self, folder: Path | None = None, piece: int = PIECE) -> None:
        """folder: on a disk with room for them; by default that of temporary files.

        piece: rows that whoever uses the scratch has in memory at a time.
        """
        self.folder = folder
        self.piece = piece
        self._files = ExitStack()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def further(self) -> Scratch:
        """Another one like it, which may be closed earlier."""
        return Scratch(self.folder, self.piece)

    def column(self, dtype: Any) -> Column:
        """An empty column."""
        return self.columns(dtype, [0])[0]

    def columns(self, dtype: Any, sizes: Sequence[int] | np.ndarray) -> list[Column]:
        """Empty columns, one after another in one file: the last may get any number of rows.

        sizes: of each, the most rows that it gets.
        """
        unnamed = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115
        file = self._files.enter_context(unnamed)
        number = file.fileno()
        ends = np.cumsum(sizes)
        starts = (ends - sizes).tolist()
        return [Column(number, np.dtype(dtype), start) for start in starts]


def pieces(rows: Rows, size: int) -> Iterator[np.ndarray]:
    """All rows in order, `size` at a time."""
    for piece in blocks(len(rows), size):
        yield rows[piece]


def spread(
    rows: Iterable[tuple[np.ndarray, np.ndarray]], sizes: np.ndarray, scratch: Scratch
) -> list[Column]:
    """The rows in several columns; within each, in the order in which they came.

    rows: at least one piece, each with the number of the column of every row, (r,) uint16.
    sizes: (columns,) rows of each.
    """
    columns: list[Column] = []
    for places, piece in rows:
        columns = columns or scratch.columns(piece.dtype, sizes)
        order, ends = by_place(places, len(columns))
        shares = np.split(taken(piece, order), ends[:-1])
        for column, share in zip(columns, shares, strict=True):
            if len(share):
                column.append(share)
    return columns


def gathered(places: Iterable[np.ndarray], columns: Sequence[Rows]) -> Iterator[np.ndarray]:
    """The rows that were spread to these places, in the order in which they came, as pieces.

    places: of each row the number of its column, piece by piece.
    """
    done = np.zeros(len(columns), np.int64)
    for piece in places:
        order, ends = by_place(piece, len(columns))
        counts = np.diff(ends, prepend=0)
        shares = []
        for number in np.flatnonzero(counts).tolist():
            shares.append(columns[number][done[number] : done[number] + counts[number]])
        done += counts
        share = np.concatenate(shares)
        found = np.empty_like(share)
        found[order] = share
        yield found


def taken(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """rows[order]. Rows of 8 bytes are copied as numbers, in a fifth of the time."""
    if rows.dtype.itemsize != 8:
        return rows[order]
    return rows.view(np.uint64)[order].view(rows.dtype)


def by_place(places: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows by their place, (r,), and how many of them are at each place or before it, (n,)."""
    # Of 16 bits, NumPy's stable sort is a counting sort.
    order = np.argsort(places.astype(np.uint16, copy=False), kind="stable")
    return order, np.cumsum(np.bincount(places, minlength=n))
