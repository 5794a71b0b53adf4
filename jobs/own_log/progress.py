"""A progress bar over the bytes of a log's files, whatever they are packed with."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rich.progress import Progress

from jobs.intake.reading import is_parquet
from jobs.intake.streams import compression
from jobs.intake.taken import PROGRESS
from jobs.sources.files import size_of

HEAD = 1 << 18  # bytes at the beginning of a file that tell how long its lines are
LINE_BYTES = 60  # where they do not


@contextmanager
def bar(files: list[Path], console: Console) -> Iterator[PROGRESS]:
    """A bar over the bytes of all files, which moves within large ones."""
    sizes = {file: size_of(file) for file in files}
    a_line = {}
    done: dict[Path, float] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Reading", total=sum(sizes.values()))

        def move(file: Path, lines: int) -> None:
            if file not in a_line:
                a_line[file] = bytes_a_line(file)
            done[file] = min(lines * a_line[file], sizes[file])
            progress.update(task, completed=sum(done.values()))

        yield move


def bytes_a_line(file: Path) -> float:
    """Bytes of the file, compressed as they are, for each of its lines: an estimate."""
    size = file.stat().st_size
    if is_parquet(file):
        return size / max(1, parquet.ParquetFile(file).metadata.num_rows)
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    try:
        text = decompressed(head, compression(file))
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException):
        return LINE_BYTES
    lines = text.count(b"\n") or text.count(b"\r")
    return len(head) / lines if lines else LINE_BYTES


def decompressed(head: bytes, kind: str) -> bytes:
    """What can be decompressed of the beginning of a file."""
    match kind:
        case "gzip":
            return zlib.decompressobj(wbits=31).decompress(head)
        case "bz2":
            return bz2.BZ2Decompressor().decompress(head)
        case "xz":
            return lzma.LZMADecompressor().decompress(head)
        case "zstd":
            return pa.CompressedInputStream(pa.BufferReader(head), "zstd").read(HEAD)
    return head
