"""The same rows give the same Parquet bytes, whichever JVM wrote them.

Spark's Parquet writer is deterministic but for one thing: the list of encodings that the footer tells of every column
comes from a Java hash set of enum constants, whose order changes from one JVM to the next. Sorting it in place leaves
the meaning and the length of the file as they are. Source: parquet-format's parquet.thrift (`ColumnMetaData.encodings`)
and Thrift's compact protocol, https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
ENCODINGS = (
    4,
    1,
    3,
    2,
)  # FileMetaData.row_groups -> RowGroup.columns -> ColumnChunk.meta_data -> .encodings


def sort_encodings(file: Path) -> None:
    """Bring the encodings of every column in the footer of a Parquet file into order."""
    with file.open("r+b") as stream:
        stream.seek(-8, 2)
        size, magic = int.from_bytes(stream.read(4), "little"), stream.read(4)
        assert magic == b"PAR1", f"{file} is not a Parquet file"
        stream.seek(-8 - size, 2)
        footer = stream.read(size)
        ordered = bytearray(footer)
        for start, end in _Footer(footer).encodings():
            ordered[start:end] = sorted(footer[start:end])
        if ordered != footer:
            stream.seek(-8 - size, 2)
            stream.write(ordered)


class _Footer:
    """A reader of Thrift's compact protocol that knows where it is, and nothing about what the values mean."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def encodings(self) -> Iterator[tuple[int, int]]:
        """Where every list of encodings lies: an encoding is an enum below 64, one byte."""
        return self._value(STRUCT, ())

    def _value(self, kind: int, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        """Pass over one value; path: the numbers of the fields that lead to it."""
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
        else:
            self.at += {BYTE: 1, DOUBLE: 8}.get(
                kind, 0
            )  # a boolean field is told by its kind alone

    def _struct(self, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            yield from self._value(head & 15, (*path, field))

    def _list(self, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        head = self._byte()
        size, kind = (self._varint() if head >> 4 == 15 else head >> 4), head & 15
        if path == ENCODINGS:
            yield self.at, self.at + size
        for _ in range(size):
            yield from self._value(BYTE if kind in (TRUE, FALSE) else kind, path)

    def _map(self, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        if size := self._varint():
            kinds = self._byte()
            for _ in range(size):
                yield from self._value(kinds >> 4, path)
                yield from self._value(kinds & 15, path)

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value, shift = value | (byte & 127) << shift, shift + 7
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
