"""Looking at the beginning of a file: how it is written, and what its columns look like.

Nothing but the sample decides, so the same file is always found to be the same. What the sample
leaves open is a guess, and is marked as one: `sure` is false and `why` says what speaks for it.
"""

from __future__ import annotations

import codecs
import io
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from jobs.errors import BadInput
from jobs.intake.content import Column, column_of, unit_of
from jobs.intake.dialect import WHITE_SPACE, Dialect
from jobs.intake.fields import columns_of, header_names, taken_apart
from jobs.intake.reading import (
    Wanted,
    is_parquet,
    parquet_pieces,
    rows_of,
    text_pieces,
)
from jobs.intake.records import Block, Splitter
from jobs.intake.streams import (
    compression,
    line_break_of,
    marked_encoding,
    opened,
    without_marks,
)

SAMPLE_BYTES = 1 << 20  # of text, once decompressed
SAMPLE_ROWS = 5000
GLANCE_BYTES = 1 << 14  # of files that are compared with another one
SHOWN_BYTES = 60  # of a line, in messages
JUDGED = 100  # records that are taken apart for every separator that is tried
# The first of equally good ones is taken, white space only where no other fits.
SEPARATORS = ("\t", "::", "||", ";", "|", ",", "\x01", "^", "~", WHITE_SPACE)
REGULAR = 0.9  # share of records with the same number of fields
COMMENTS = "#%"
QUOTES = (('"', ""), ('"', "\\"), ("", ""))
FEW_FAULTS = 0.01  # share of lines with quotes that do not add up, in a file that has quotes
WIDE = ("utf-16", "utf-32")  # encodings in which ASCII is other bytes
FEW_NULS = 0.01  # share of the bytes
UNREADABLE = (
    OSError,
    EOFError,
    UnicodeError,
    StopIteration,
    lzma.LZMAError,
    zlib.error,
    pa.ArrowException,
)
# What begins so.
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel file: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Excel file: save it as CSV",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!\x1a\x07": "a RAR archive: unpack it",
    b"\x1f\x9d": "compressed with compress: unpack it",
    b"\x04\x22\x4d\x18": "compressed with LZ4: unpack it, or compress it with Zstandard",
    b"\xff\x06\x00\x00sNaPpY": "compressed with Snappy: unpack it, or compress it with Zstandard",
    b"SQLite format 3\0": "an SQLite database: export the table as CSV",
    b"Obj\x01": "an Avro file: write it as Parquet",
    b"ARROW1\0": "an Arrow file: write it as Parquet",
}
# The same, where it is no text: a column may be called ORCID or PARENT.
IF_NO_TEXT = {
    b"ORC": "an ORC file: write it as Parquet",
    b"PARE": "an encrypted Parquet file: decrypt it",
}
TAR = b"ustar"  # at byte 257
# An object, a list of what may be in one, or a line that is a list of numbers.
JSON = re.compile(rb'\s*(?:\{\s*["}]|\[\s*[\[{"]|\[[-0-9 .,eE]*\],?[ \t\r]*(?:\n|\Z))')


@dataclass(frozen=True)
class Finding:
    """Something that was found. why: what speaks for it, where it is not sure."""

    value: str
    sure: bool = True
    why: str = ""


@dataclass(frozen=True)
class FileLook:
    """How a file is written. header: "yes", "no", or "" where the format has names of its own.

    ascii: the sample has no other characters, so it is the same in nearly any encoding. quoted:
    there are quotes in the sample. rows: records in it. complete: it is the whole file.
    """

    path: Path
    format: str  # "text", "parquet", or "empty"
    compression: str = ""
    encoding: Finding = Finding("utf-8")
    separator: Finding = Finding(",")
    quote: Finding = Finding('"')
    escape: Finding = Finding("")
    ascii: bool = False
    quoted: bool = False
    comments: str = ""
    header: Finding = Finding("")
    columns: tuple[Column, ...] = ()
    rows: int = 0
    complete: bool = False

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def dialect(self) -> Dialect:
        """How to read the file. Columns without a header are named by their places, from 1."""
        return Dialect(
            self.separator.value,
            self.quote.value,
            self.escape.value,
            self.encoding.value,
            self.comments,
            tuple(self.names) if self.header.value == "no" else (),
        )


@dataclass(frozen=True)
class Sample:
    """The beginning of a text file, in UTF-8. whole: there is no more."""

    data: bytes
    encoding: Finding
    whole: bool
    comments: str = ""

    @property
    def ascii(self) -> bool:
        return self.encoding.value == "utf-8" and self.data.isascii()


def look(file: Path, size: int = SAMPLE_BYTES) -> FileLook:
    """Look at the first records of a file.

    size: bytes of text. Raises BadInput for what is neither text with columns nor Parquet.
    """
    try:
        if is_parquet(file):
            return look_at_parquet(file)
        return look_at_text(file, sample_of(file, size))
    except UNREADABLE as error:
        raise BadInput(f"{file} cannot be read: {error}. Is it complete?") from error


def alike(file: Path, found: FileLook) -> bool:
    """Has a file rows, and the same columns with times of the same unit as one looked at?"""
    try:
        if is_parquet(file) or found.format == "parquet":
            return is_parquet(file) and same_columns(look_at_parquet(file).columns, found)
        sample = sample_of(file, GLANCE_BYTES)
    except (BadInput, *UNREADABLE):
        return False
    wide = found.encoding.value.startswith(WIDE)
    if sample.encoding.value != found.encoding.value and (wide or not sample.ascii):
        return False
    block = block_of(sample, found.dialect, JUDGED)
    if len(block) < (2 if found.header.value == "yes" else 1):
        return False
    width, _ = widths(block, found.dialect)
    names = found.names
    if found.header.value == "yes":
        names = header_names(block.text(0), found.dialect)
        block = block.without_first()
    if len(names) != width:
        return False
    return same_columns(columns_in(block, found.dialect, width, names), found)


def same_columns(columns: Sequence[Column], found: FileLook) -> bool:
    """Have they the same names, and are those with times read in the same unit?"""
    as_read = [(column.name, column.unit) for column in columns]
    return as_read == [(column.name, column.unit) for column in found.columns]


def look_at_parquet(file: Path) -> FileLook:
    with parquet.ParquetFile(file) as stream:
        batch = next(stream.iter_batches(SAMPLE_ROWS), None)
        names = list(stream.schema_arrow.names)
        complete = stream.metadata.num_rows <= SAMPLE_ROWS
    if batch is None or not len(batch):
        return FileLook(file, "empty", columns=tuple(Column(name, "empty", 0, 0) for name in names))
    columns = []
    for name, array in zip(names, batch.columns, strict=True):
        columns.append(column_of(name, flat(array), Dialect()))
    return FileLook(file, "parquet", columns=tuple(columns), rows=len(batch), complete=complete)


def flat(array: pa.Array) -> pa.Array:
    """Lists and structures as one text, which is no id."""
    if not pa.types.is_nested(array.type):
        return array
    return pa.array(
        [None if value is None else json.dumps(value, default=str) for value in array.to_pylist()],
        pa.string(),
    )


def look_at_text(file: Path, sample: Sample) -> FileLook:
    found = FileLook(
        file,
        "empty",
        compression(file),
        sample.encoding,
        ascii=sample.ascii,
        quoted=b'"' in sample.data,
        comments=sample.comments,
        complete=sample.whole,
    )
    if not sample.data.strip():
        return found
    separator = separator_of(sample)
    if separator is None:
        raise BadInput(
            f"{file} has no columns: no separator divides its lines into the same number of "
            "fields. Expected CSV, a list of edges, or Parquet; write one of these. Where another "
            "character separates them, name it as source.separator in a settings file: start from "
            "configs/table.toml."
        )
    quote, escape = quotes_of(sample, separator)
    found = replace(found, format="text", separator=separator, quote=quote, escape=escape)
    block = block_of(sample, found.dialect)
    complete = sample.whole and block.lines < SAMPLE_ROWS
    return with_columns(replace(found, complete=complete), block)


def sample_of(file: Path, size: int) -> Sample:
    """The beginning of a text file. Raises BadInput for formats that are no text."""
    data, whole = beginning(file, size)
    if what := format_of(data):
        raise BadInput(f"{file} {what}.")
    encoding = encoding_of(data)
    if encoding.value == "utf-8":
        text = data
    else:
        text = data.decode(encoding.value, "ignore").encode()
    if text.count(0) > FEW_NULS * len(text):  # some text has one in an id, or behind its end
        raise BadInput(f"{file} is no text: it holds NUL bytes. Expected CSV or Parquet.")
    if line_break_of(text) == b"\r":
        text = text.replace(b"\r", b"\n")
    text = without_marks(text)
    if not whole:
        text = text[: text.rfind(b"\n") + 1] or text
    return Sample(text, encoding, whole, comments_of(text))


def other_format(file: Path) -> str:
    """What a file is that cannot be read as text or Parquet, and what to do; empty where that is
    not known.
    """
    try:
        if is_parquet(file):
            return ""
        what = format_of(beginning(file, GLANCE_BYTES)[0])
    except UNREADABLE:
        return ""
    return f"{file} {what}." if what else ""


def format_of(data: bytes) -> str:
    """The same by the first bytes, decompressed."""
    known = OTHER_FORMATS if is_utf8(data) and b"\0" not in data else OTHER_FORMATS | IF_NO_TEXT
    for magic, what in known.items():
        if data.startswith(magic):
            return f"is {what}"
    if data[257:262] == TAR:
        return "is a tar archive: unpack it"
    if JSON.match(data.removeprefix(codecs.BOM_UTF8)):
        return (
            "holds JSON; expected CSV, a list of edges, or Parquet. Convert it, for example with "
            "DuckDB, or add a source (docs/extend/source.md)"
        )
    return ""


def beginning(file: Path, size: int) -> tuple[bytes, bool]:
    """The first bytes of a file, decompressed, and whether these are all.

    A file that is cut off, or damaged further on, has a beginning all the same.
    """
    data = bytearray()
    with opened(file) as (_, opened_file):
        stream: Any = opened_file  # all of them have read1
        while len(data) < size:
            try:
                piece = stream.read1(size - len(data))
            except UNREADABLE:
                if not data:
                    raise
                return bytes(data), False
            if not piece:
                return bytes(data), True
            data += piece
    return bytes(data), False


def encoding_of(data: bytes) -> Finding:
    """The encoding of some bytes."""
    if marked := marked_encoding(data):
        return Finding(marked)
    odd, even = data[1::2].count(0), data[::2].count(0)
    if max(odd, even) > len(data) // 8:
        name = "utf-16-le" if odd > even else "utf-16-be"
        return Finding(name, False, "every other byte is 0, without a mark of UTF-16")
    if is_utf8(data):
        return Finding("utf-8")
    wrong = len(re.findall("[\udc80-\udcff]", data.decode("utf-8", "surrogateescape")))
    right = len(re.findall(r"[^\x00-\x7f]", data.decode("utf-8", "ignore")))
    if right > 2 * wrong:
        return Finding("utf-8", False, f"{wrong} bytes are not; rows with them are put aside")
    name = "cp1252" if re.search(rb"[\x80-\x9f]", data) else "latin-1"
    return Finding(name, False, "it is not UTF-8: compare the names with accents")


def is_utf8(data: bytes) -> bool:
    """Is it UTF-8, as far as it goes? It may end within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def comments_of(data: bytes) -> str:
    """The characters that begin the file's first lines, where other lines have others."""
    found = ""
    lines = [line for line in data.split(b"\n", SAMPLE_ROWS) if line.strip()]
    for line in lines:
        first = line.lstrip()[:1].decode("latin-1")
        if first not in COMMENTS:
            return found
        found += first if first not in found else ""
    return ""


def block_of(sample: Sample, dialect: Dialect, lines: int = SAMPLE_ROWS) -> Block:
    """The records of the first lines."""
    end = 0
    for _ in range(lines):
        after = sample.data.find(b"\n", end) + 1
        if not after:
            end = len(sample.data)
            break
        end = after
    return next(Splitter(dialect).blocks([sample.data[:end]]))


def separator_of(sample: Sample) -> Finding | None:
    """The separator that makes columns; None for none. One with a column of times is preferred."""
    found = []
    for place, separator in enumerate(SEPARATORS):
        quote = "" if separator == WHITE_SPACE else '"'
        dialect = Dialect(separator, quote, comments=sample.comments)
        try:
            block = block_of(sample, dialect, JUDGED)
        except UnicodeError:  # it holds the byte that stands for a separator of several characters
            continue
        width, share = widths(block, dialect)
        if width < 2 or share < REGULAR:
            continue
        filled, dated = columns_made(block, dialect, width)
        found.append(((dated, separator != WHITE_SPACE, filled * share, -place), separator))
    if not found:
        return None
    found.sort(reverse=True)
    (score, best), *others = found
    equal = [separator for other, separator in others if other[:3] == score[:3]]
    return Finding(best, not equal, f"{equal[0]!r} divides the lines as well" if equal else "")


def columns_made(block: Block, dialect: Dialect, width: int) -> tuple[int, bool]:
    """How many columns have values, and whether one of them has times, below the first record."""
    rows = fields_of(block, dialect)
    filled = 0
    dated = False
    for place in range(width):
        column = [row[place].strip() for row in rows[1:] or rows if len(row) > place]
        column = [printable(value) for value in column if value]
        filled += bool(column)
        dated = dated or bool(column and unit_of(pa.array(column)))
    return filled, dated


def widths(block: Block, dialect: Dialect) -> tuple[int, float]:
    """The usual number of fields, and the share of records that have it.

    Of white space: the largest number, as the last fields of a list of edges may be missing.
    """
    rows = fields_of(block, dialect)
    counts = Counter(len(fields) for fields in rows)
    if not counts:
        return 0, 0.0
    width, usual = counts.most_common(1)[0]
    if dialect.separator == WHITE_SPACE and max(counts) - min(counts) <= 1:
        return max(counts), 1.0
    # Separators at the end of every line but the header's.
    named = len(rows[0])
    ended = [row for row in rows[1:] if len(row) == width and not any(map(str.strip, row[named:]))]
    if named < width and len(ended) == usual:
        return named, 1.0
    return width, usual / len(rows)


def fields_of(block: Block, dialect: Dialect) -> list[list[str]]:
    """The fields of the first records, without blank ones."""
    texts = [block.text(at) for at in range(min(len(block), JUDGED))]
    return [taken_apart(text, dialect) for text in texts if text.strip()]


def quotes_of(sample: Sample, separator: Finding) -> tuple[Finding, Finding]:
    """The quote and the escape with which the fewest lines are no records."""
    if separator.value == WHITE_SPACE:
        return Finding(""), Finding("")
    if b'"' not in sample.data:
        lines = sample.data.count(b"\n")
        single = 2 * quoted_fields(sample, separator.value, "'") > lines
        return Finding("'" if single else '"'), Finding("")
    wrong = []
    for quote, escape in QUOTES:
        dialect = Dialect(separator.value, quote, escape, comments=sample.comments)
        block = block_of(sample, dialect)
        _, share = widths(block, dialect)
        wrong.append(len(block.faults) + round((1 - share) * min(len(block), JUDGED)))
    doubled, escaped, none = wrong
    if b'\\"' in sample.data and escaped < doubled:
        return Finding('"'), Finding("\\")
    many = doubled - none > FEW_FAULTS * block.lines
    if many and not quoted_fields(sample, separator.value, '"'):
        return Finding("", False, "quotes are within fields, never around them"), Finding("")
    return Finding('"'), Finding("")


def quoted_fields(sample: Sample, separator: str, quote: str) -> int:
    """How many fields have quotes around them."""
    between, mark = re.escape(separator.encode()), quote.encode()
    pattern = rb"(?:^|%b)[ ]*%b[^%b\n]*%b[ ]*(?=%b|\r?$)" % (between, mark, mark, mark, between)
    return len(re.findall(pattern, sample.data, re.MULTILINE))


def with_columns(found: FileLook, block: Block) -> FileLook:
    """The look with its header and columns."""
    width, _ = widths(block, found.dialect)
    first = header_names(block.text(0), found.dialect)
    numbered = [str(at + 1) for at in range(width)]
    as_rows = columns_in(block, found.dialect, width, numbered)
    header = header_of(first, block, found.dialect, width)
    if header.value == "no":
        return replace(found, header=header, columns=as_rows, rows=len(block))
    lines = fields_of(block, found.dialect)[1:]
    # The last fields of a list of edges may be missing, those of its header as well.
    least = width if found.separator.value != WHITE_SPACE else min(map(len, lines), default=0)
    if len(first) < least:
        raise BadInput(
            f"{found.path} has {len(first)} names in its first line, {shown_line(block)!r}, and "
            f"{width} fields in the others. Add the names that are missing, such as that of an "
            "index, or remove what is above the names."
        )
    names = first + [""] * (width - len(first))
    below = columns_in(block.without_first(), found.dialect, width, names)
    if len(block) == 1:
        return replace(found, format="empty", header=header, columns=below)
    return replace(found, header=header, columns=below, rows=len(block) - 1)


def shown_line(block: Block) -> str:
    return block.text(0)[:SHOWN_BYTES].decode("utf-8", "backslashreplace").strip()


def columns_in(block: Block, dialect: Dialect, width: int, names: list[str]) -> tuple[Column, ...]:
    places = list(range(width))
    found = columns_of(block, dialect, [str(place) for place in places], places)
    columns = []
    for name, array in zip(names, found.columns, strict=False):
        columns.append(column_of(name, array, dialect))
    return tuple(columns)


def header_of(first: list[str], block: Block, dialect: Dialect, width: int) -> Finding:
    """Is the first record a header? It has no numbers and times, and what is below it has."""
    if any(looks_typed(name) for name in first):
        return Finding("no")
    below = columns_in(block.without_first(), dialect, width, [""] * width)
    if any(typed(column) for column in below):
        return Finding("yes")
    why = "all columns are texts, as the first line is" if len(block) > 1 else "it has one line"
    return Finding("yes", False, why)


def typed(column: Column) -> bool:
    return column.kind in ("time", "odd_time", "label") or column.numeric


def looks_typed(name: str) -> bool:
    """Is it a number or a time, as no column is called?"""
    return typed(column_of("", pa.array([printable(name)], pa.string()), Dialect()))


def printable(text: str) -> str:
    """A text without the bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()


def preview(file: Path, wanted: Wanted, size: int = SAMPLE_BYTES) -> pa.Table:
    """The first rows as the reader understands them; see `Wanted.schema`."""
    if is_parquet(file):
        tables = [rows_of(piece, wanted).table for piece in islice(parquet_pieces(file, wanted), 1)]
        return pa.concat_tables(tables) if tables else wanted.schema.empty_table()
    data, whole = beginning(file, size)
    if not whole and wanted.dialect.encoding == "utf-8":
        data = data[: data.rfind(b"\n") + 1] or data
    tables = []
    for piece in text_pieces(io.BytesIO(data), wanted, file):
        tables.append(rows_of(piece, wanted).table)
    return pa.concat_tables(tables) if tables else wanted.schema.empty_table()
