"""The bytes of a log file: decompressed, in UTF-8, without a byte order mark, and digested."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

CHUNK = 1 << 22  # bytes of text that are taken apart at once
# Compressed files are recognised by their first bytes: a name may claim anything.
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
LONGEST_LINE = 1 << 26  # bytes; no log has such a line, and memory must not grow with the file
PART = 1 << 17
# What reading raises of a file that is truncated or damaged.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error, pa.ArrowException)
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class DigestedFile(io.RawIOBase):
    """A file that is hashed while it is read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._sha = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._stream.readinto(buffer) or 0
        self._sha.update(memoryview(buffer)[:count])
        return count

    def digest(self) -> str:
        """SHA-256 of the whole file, as `embeddings.durable.file_digest`; reads what is left."""
        while block := self._stream.read(CHUNK):
            self._sha.update(block)
        return self._sha.hexdigest()

    def close(self) -> None:
        self._stream.close()
        super().close()


def compression(path: Path) -> str:
    """The name of the compression of a file; empty for none."""
    with path.open("rb") as stream:
        start = stream.read(6)
    for magic, name in MAGIC.items():
        if start.startswith(magic):
            return name
    return ""


@contextmanager
def opened(path: Path) -> Iterator[tuple[DigestedFile, IO[bytes]]]:
    """A file, and its decompressed bytes. Compressed members one after another are one text."""
    with DigestedFile(path) as raw:
        buffered = io.BufferedReader(raw, CHUNK)
        match compression(path):
            case "gzip":
                stream: Any = gzip.GzipFile(fileobj=buffered)
            case "bz2":
                stream = bz2.BZ2File(buffered)
            case "xz":
                stream = lzma.LZMAFile(buffered)  # noqa: SIM115 - `raw` is closed
            case "zstd":
                stream = pa.CompressedInputStream(pa.PythonFile(buffered), "zstd")
            case _:
                stream = buffered
        yield raw, stream


def chunks(stream: IO[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, in pieces that end after a line break, except for the last one.

    Bytes that the encoding does not know stay as they are, and are no UTF-8. Raises UnicodeError
    for UTF-16 under another name.
    """
    decoder = None
    name = codecs.lookup(encoding).name
    # Halves of pairs, and bytes that the encoding does not know, become what is no UTF-8.
    odd = "surrogatepass" if name.startswith(("utf-16", "utf-32")) else "surrogateescape"
    if name != "utf-8":
        decoder = codecs.getincrementaldecoder(encoding)(errors=odd)
    rest = b""
    line_break = b""
    first = True
    for block in blocks(stream):
        if first and decoder is None and block.startswith(UTF_16_MARKS):
            raise UnicodeError("it begins like UTF-16: set source.encoding = 'utf-16'")
        if decoder is not None:
            block = decoder.decode(block).encode("utf-8", odd)
        if first:
            block = block.removeprefix(codecs.BOM_UTF8)
            first = False
        line_break = line_break or line_break_of(block)
        if line_break == b"\r":
            block = block.replace(b"\r", b"\n")
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
        if len(rest) > LONGEST_LINE:
            raise UnicodeError(f"it has a line of more than {LONGEST_LINE >> 20} MiB: is it text?")
    if decoder is not None:
        rest += decoder.decode(b"", final=True).encode("utf-8", odd)
    if rest:
        yield rest


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes in large blocks, those before damage included; then its error is raised."""
    read: list[bytes] = []
    size = 0
    try:
        while part := stream.read1(PART):  # type: ignore[attr-defined]
            read.append(part)
            size += len(part)
            if size >= CHUNK:
                yield b"".join(read)
                read, size = [], 0
    except DAMAGE:
        yield b"".join(read)
        raise
    if read:
        yield b"".join(read)


def line_break_of(block: bytes) -> bytes:
    """The byte that ends a line: a carriage return in files of old Macintoshes only."""
    if b"\n" in block:
        return b"\n"
    return b"\r" if b"\r" in block else b""
