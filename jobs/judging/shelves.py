"""The ids of many rows, spread over shelves: all rows of one id are on one shelf.

A shelf has about a piece of rows, so that what concerns every id by itself is done a shelf at a
time, whatever the number of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pyarrow as pa

from models.scratch import Column, Scratch, by_place, gathered, pieces

MOST = 1 << 16  # shelves: their numbers have 16 bits


@dataclass(frozen=True)
class Shelves:
    """Where the rows of every id are.

    hashes: (n,) uint32, the CRC-32 of each row's id. places: (n,) uint16, each row's shelf. sizes:
    (shelves,) their rows.
    """

    scratch: Scratch
    hashes: Column
    places: Column
    sizes: np.ndarray
    lengths: list[Column]  # of the ids of each shelf in bytes, (rows,) int32
    bytes: list[Column]  # the ids of each shelf, one after another

    @classmethod
    def of(
        cls, ids: Callable[[], Iterable[pa.StringArray]], rows: int, scratch: Scratch
    ) -> Shelves:
        """ids: of every row, piece by piece, as often as it is called. rows: of all pieces."""
        shelves = min(max(1, -(-rows // scratch.piece)), MOST)
        hashes, places = scratch.column(np.uint32), scratch.column(np.uint16)
        sizes, widths = np.zeros(shelves, np.int64), np.zeros(shelves, np.int64)
        for piece in ids():
            hashed = hashes_of(piece)
            # The lowest bit halves the consumers: jobs.judging.calibration.
            place = ((hashed >> np.uint32(1)) % np.uint32(shelves)).astype(np.uint16)
            hashes.append(hashed)
            places.append(place)
            sizes += np.bincount(place, minlength=shelves)
            widths += np.bincount(place, lengths_of(piece), shelves).astype(np.int64)
        lengths = scratch.columns(np.int32, sizes)
        texts = scratch.columns(np.uint8, widths)
        done = 0
        for piece in ids():
            order, ends = by_place(places[done : done + len(piece)], shelves)
            done += len(piece)
            of_piece = piece.take(pa.array(order))
            start = 0
            for number, end in enumerate(ends.tolist()):
                if end > start:
                    share = of_piece.slice(start, end - start)
                    lengths[number].append(lengths_of(share))
                    texts[number].append(bytes_of(share))
                    start = end
        return cls(scratch, hashes, places, sizes, lengths, texts)

    def __iter__(self) -> Iterator[pa.StringArray]:
        """The ids of each shelf's rows, in the order of the rows."""
        for lengths, texts in zip(self.lengths, self.bytes, strict=True):
            ends = np.cumsum(lengths[:], dtype=np.int64)
            offsets = np.concatenate([[0], ends]).astype(np.int32)
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(texts[:])]
            yield pa.Array.from_buffers(pa.string(), len(ends), buffers)

    def in_rows(self, columns: list[Column]) -> Iterator[np.ndarray]:
        """Values that are shelf by shelf, in the order of the rows, piece by piece."""
        return gathered(pieces(self.places, self.scratch.piece), columns)


def hashes_of(ids: pa.StringArray) -> np.ndarray:
    """The CRC-32 of each id: (r,) texts -> (r,) uint32."""
    encoded = ids.dictionary_encode()
    distinct = encoded.dictionary.cast(pa.binary()).to_pylist()
    return np.array([crc32(one) for one in distinct], np.uint32)[encoded.indices.to_numpy()]


def offsets_of(ids: pa.StringArray) -> np.ndarray:
    """Where each text begins among the bytes of the array, and where the last ends: (r + 1,)."""
    offsets = np.frombuffer(ids.buffers()[1], np.int32)
    return offsets[ids.offset : ids.offset + len(ids) + 1]


def lengths_of(ids: pa.StringArray) -> np.ndarray:
    """The bytes of each text: (r,) int32."""
    return np.diff(offsets_of(ids)) if len(ids) else np.zeros(0, np.int32)


def bytes_of(ids: pa.StringArray) -> np.ndarray:
    """All texts, one after another: (bytes,) uint8."""
    if not len(ids) or ids.buffers()[2] is None:
        return np.zeros(0, np.uint8)
    offsets = offsets_of(ids)
    return np.frombuffer(ids.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
