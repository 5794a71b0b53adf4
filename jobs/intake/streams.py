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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

CHUNK = 1 << 22  # bytes of text that are taken apart at once
# Compressed files are recognised by their first bytes: a name may claim anything.
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
LONGEST_LINE = 1 << 26  # bytes; no log has such a line, and memory must not grow with the file
PART = 1 << 17
Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor  # of one member
# What reading raises of a file that is truncated or damaged.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error, pa.ArrowException)
# The marks of encodings with several bytes for every character; that of UTF-16 begins as UTF-32's.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MARKED_LINE = b"\n" + codecs.BOM_UTF8


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


class Members(io.RawIOBase):
    """The text of compressed members, one after another.

    Python's own readers pass over what is no member, such as text that was appended: here it is an
    error, as it is with gzip. Zeros behind the last member are padding.
    """

    def __init__(self, stream: IO[bytes], new: Callable[[], Decompressor]) -> None:
        self._stream = stream
        self._new = new
        self._member = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while True:
            if self._member.eof:
                rest = self._next_member()
                if not rest:
                    return 0
            else:
                rest = self._stream.read(PART) if self._member.needs_input else b""
                if not rest and self._member.needs_input:
                    raise EOFError("the compressed text ends before its end is marked")
            text = self._member.decompress(rest, len(buffer))
            if text:
                buffer[: len(text)] = text
                return len(text)

    def _next_member(self) -> bytes:
        """The first bytes of the next member; none where there is no more."""
        rest = self._member.unused_data.lstrip(b"\0")
        while not rest:
            block = self._stream.read(PART)
            if not block:
                return b""
            rest = block.lstrip(b"\0")
        self._member = self._new()
        return rest


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
                stream = io.BufferedReader(Members(buffered, bz2.BZ2Decompressor))
            case "xz":
                stream = io.BufferedReader(Members(buffered, lzma.LZMADecompressor))
            case "zstd":
                stream = pa.CompressedInputStream(pa.PythonFile(buffered), "zstd")
            case _:
                stream = buffered
        yield raw, stream


def chunks(stream: IO[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, in pieces that end after a line break, except for the last one.

    Bytes that the encoding does not know stay as they are, and are no UTF-8. A byte order mark is
    taken off every line, as files with one may have been put together. Raises UnicodeError for
    UTF-16 and UTF-32 under another name.
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
        marked = marked_encoding(block) if first and decoder is None else ""
        if marked:
            raise UnicodeError(f"it begins like {marked.upper()}: set source.encoding = '{marked}'")
        if decoder is not None:
            block = decoder.decode(block).encode("utf-8", odd)
        first = False
        line_break = line_break or line_break_of(block)
        if line_break == b"\r":
            block = block.replace(b"\r", b"\n")
        cut = block.rfind(b"\n") + 1
        if cut:
            yield without_marks(rest + block[:cut])
            rest = block[cut:]
        else:
            rest += block
        if len(rest) > LONGEST_LINE:
            raise UnicodeError(f"it has a line of more than {LONGEST_LINE >> 20} MiB: is it text?")
    if decoder is not None:
        rest += decoder.decode(b"", final=True).encode("utf-8", odd)
    if rest := without_marks(rest):
        yield rest


def marked_encoding(text: bytes) -> str:
    """The encoding that a byte order mark tells, of those with several bytes for every character;
    empty for none.
    """
    return next((name for mark, name in MARKS.items() if text.startswith(mark)), "")


def without_marks(lines: bytes) -> bytes:
    """Whole lines without byte order marks before them."""
    if lines.isascii():
        return lines
    while lines.startswith(codecs.BOM_UTF8):
        lines = lines.removeprefix(codecs.BOM_UTF8)
    while MARKED_LINE in lines:
        lines = lines.replace(MARKED_LINE, b"\n")
    return lines


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
