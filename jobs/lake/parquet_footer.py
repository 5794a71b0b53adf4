"""The same rows give the same Parquet bytes, whichever JVM wrote them.

Spark's Parquet writer is deterministic except for one thing: the footer lists the encodings of each
column in the order of a Java hash set of enum constants, which differs from one JVM to the next.
Sorting the list in place changes neither the meaning nor the length of the file.
Source: parquet-format's parquet.thrift (`ColumnMetaData.encodings`) and Thrift's compact protocol,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.errors import EvergreenError

# The types of the compact protocol, by their numbers.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

# Field numbers: FileMetaData.row_groups, RowGroup.columns, ColumnChunk.meta_data, .encodings.
ENCODINGS = (4, 1, 3, 2)

MAGIC = b"PAR1"
TAIL = 8  # bytes at the end of a file: the footer's length and the magic


class NotParquet(EvergreenError):
    """A file that should be Parquet and has no footer that can be read."""


def sort_encodings(file: Path) -> None:
    """Sort the encodings of every column in the footer of a Parquet file.

    Raises NotParquet, and leaves the file as it is, when the footer is missing or damaged.
    """
    with file.open("r+b") as stream:
        start, footer = read_footer(file, stream)
        ordered = bytearray(footer)
        try:
            for first, end in _Footer(footer).encodings():
                ordered[first:end] = sorted(footer[first:end])
        except IndexError:
            raise not_parquet(file, "its footer is damaged") from None
        if ordered != footer:
            stream.seek(start)
            stream.write(ordered)


def read_footer(file: Path, stream) -> tuple[int, bytes]:
    """Where the footer starts, and its bytes."""
    size = file.stat().st_size
    if size < TAIL:
        raise not_parquet(file, f"it has {size} bytes")
    stream.seek(size - TAIL)
    length = int.from_bytes(stream.read(4), "little")
    if stream.read(4) != MAGIC or length > size - TAIL:
        raise not_parquet(file, "it does not end with a footer")
    start = size - TAIL - length
    stream.seek(start)
    return start, stream.read(length)


def not_parquet(file: Path, reason: str) -> NotParquet:
    return NotParquet(
        f"{file} is not a complete Parquet file: {reason}. "
        "The disk may be full or the write was cut short; free some space and run the step again."
    )


class _Footer:
    """A reader of Thrift's compact protocol: it tracks positions and ignores what values mean."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def encodings(self) -> Iterator[tuple[int, int]]:
        """Start and end of every list of encodings. An encoding is an enum below 64: one byte."""
        return self._value(STRUCT, ())

    def _value(self, kind: int, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        """Pass over one value; path: the field numbers that lead to it."""
        if kind == STRUCT:
            yield from self._struct(path)
        elif kind in (LIST, SET):
            yield from self._list(path)
        elif kind == MAP:
            yield from self._map(path)
        elif kind == BINARY:
            length = self._varint()
            self.at += length
        elif kind in (I16, I32, I64):
            self._varint()
        elif kind == BYTE:
            self.at += 1
        elif kind == DOUBLE:
            self.at += 8
        # TRUE and FALSE of a struct's field have no bytes: the kind is the value.

    def _struct(self, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        field = 0  # a field's number is stored as the step from the one before it
        while head := self._byte():
            step = head >> 4  # 0: too large for four bits, the number itself follows
            field = field + step if step else self._zigzag()
            yield from self._value(head & 15, (*path, field))

    def _list(self, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        head = self._byte()
        kind = head & 15
        size = head >> 4
        if size == 15:  # too large for four bits
            size = self._varint()
        if path == ENCODINGS:
            yield self.at, self.at + size
        if kind in (TRUE, FALSE):
            kind = BYTE  # in a list, unlike in a struct, a boolean is a byte
        for _ in range(size):
            yield from self._value(kind, path)

    def _map(self, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        size = self._varint()
        if not size:
            return
        kinds = self._byte()
        for _ in range(size):
            yield from self._value(kinds >> 4, path)
            yield from self._value(kinds & 15, path)

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        """An integer in groups of seven bits, the lowest first; a set top bit: a byte follows."""
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _zigzag(self) -> int:
        """A signed integer: 0, -1, 1, -2, … are stored as 0, 1, 2, 3, …."""
        value = self._varint()
        return value >> 1 ^ -(value & 1)
