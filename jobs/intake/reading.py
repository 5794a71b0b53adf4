"""What is wanted of a file, and its rows, batch by batch, from text or Parquet."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from jobs.errors import BadInput
from jobs.intake import times, values
from jobs.intake.dialect import STAND_IN, Dialect
from jobs.intake.fields import columns_of, header_names, places
from jobs.intake.records import Block, Fault, Splitter
from jobs.intake.streams import chunks

FORMAT = 2  # raised when the same file is read otherwise
PARQUET_MAGIC = b"PAR1"
LONGEST_SHOWN = 1 << 16  # bytes of a line that are kept where it is put aside
SHOWN_NAMES = 20  # of columns, in messages
PARQUET_ROWS = 1 << 17  # rows that are read at once

TIME_UNREADABLE = "time_unreadable"


@dataclass(frozen=True)
class Field:
    """One of our columns. column: the log's; empty for none.

    constant: the value where the log has no such column, or nothing in it.
    """

    name: str
    column: str
    kind: Literal["text", "number", "whole", "label", "time"] = "text"
    constant: str | float | None = None


@dataclass(frozen=True)
class Wanted:
    """What to read of a file.

    time: the column that says when, in `unit`; it becomes `time_ms` where `keeps_time`. day: in
    `zone`. remedies: column of the log -> what to do where a file lacks it.
    """

    fields: tuple[Field, ...]
    time: str
    unit: str
    zone: str
    dialect: Dialect = field(default_factory=Dialect)
    keeps_time: bool = True
    remedies: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> list[str]:
        """The log's columns that are read, each once."""
        named = [wanted.column for wanted in self.fields if wanted.column]
        return list(dict.fromkeys([self.time, *named]))

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        columns = [(wanted.name, values.TYPES[wanted.kind]) for wanted in self.fields]
        if self.keeps_time:
            columns.append(("time_ms", pa.int64()))
        provenance = [("source_line", pa.int64()), ("raw", pa.string()), ("fault", pa.string())]
        return pa.schema([*columns, *provenance])

    def digest(self) -> str:
        """Identity of all that shapes the rows besides the file."""
        text = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Piece:
    """Some rows of a file: the wanted columns as they are in it, and what is no row.

    line_R: where each row is. skipped: headers, comments and blank lines.
    """

    columns: dict[str, pa.Array]
    line_R: np.ndarray
    text: Callable[[int], bytes]  # of a row, as it is in the file
    faults: list[Fault] = field(default_factory=list)
    skipped: int = 0
    lines: int = 0


@dataclass(frozen=True)
class Rows:
    """Rows in our columns, those that are none included. day_R: days since 1970; -1 << 40: none."""

    table: pa.Table
    day_R: np.ndarray
    lines: int
    skipped: int


NO_DAY = -(1 << 40)


def is_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == PARQUET_MAGIC


def text_pieces(stream: IO[bytes], wanted: Wanted, file: Path) -> Iterator[Piece]:
    """The rows of a text file."""
    dialect = wanted.dialect
    names = list(dialect.names)
    splitter = Splitter(dialect)
    for block in splitter.blocks(chunks(stream, dialect.encoding)):
        if not names and len(block):
            names = header_names(block.text(0), dialect)
            block = block.without_first()
        elif dialect.names and len(block) and len(names) == len(dialect.names):
            names += [""] * (len(header_names(block.text(0), dialect)) - len(names))
        if not names:
            yield piece_of_faults(block, wanted)
            continue
        wanted_places = [place_of(names, column, wanted, file) for column in wanted.columns]
        yield text_piece(block, wanted, names, wanted_places)


def piece_of_faults(block: Block, wanted: Wanted) -> Piece:
    nothing = {column: pa.array([], pa.binary()) for column in wanted.columns}
    none = np.zeros(0, dtype=np.int64)
    return Piece(nothing, none, block.text, block.faults, block.skipped, block.lines)


def text_piece(block: Block, wanted: Wanted, names: list[str], wanted_places: list[int]) -> Piece:
    found = columns_of(block, wanted.dialect, names, wanted_places)
    record_R = found.record_R

    def text(row: int) -> bytes:
        return block.text(int(record_R[row]))

    return Piece(
        dict(zip(wanted.columns, found.columns, strict=True)),
        block.line_R[record_R],
        text,
        block.faults + found.faults,
        block.skipped + found.blank,
        block.lines,
    )


def place_of(names: list[str], column: str, wanted: Wanted, file: Path) -> int:
    """Where a column is. Raises BadInput where the file has none of that name, or two."""
    found = places(names, column)
    if len(found) == 1:
        return found[0]
    remedy = dict(wanted.remedies).get(column, "Change the settings.")
    if found:
        raise BadInput(
            f"{file} has {len(found)} columns '{column}'; expected one. Rename the others. {remedy}"
        )
    shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
    if any(part.startswith(f"{column}=") for part in file.parts):
        remedy = "What the name of a folder says is not read: write it into the file."
    raise BadInput(f"{file} has no column '{column}'. It has: {shown}. {remedy}")


def parquet_pieces(path: Path, wanted: Wanted) -> Iterator[Piece]:
    """The rows of a Parquet file. Columns that nobody asked for are not looked at."""
    with parquet.ParquetFile(path) as stream:
        names = list(stream.schema_arrow.names)
        for column in wanted.columns:
            kind = stream.schema_arrow.types[place_of(names, column, wanted, path)]
            if pa.types.is_nested(kind):
                raise BadInput(
                    f"{path}: column '{column}' is of type {kind}; expected one value in each row. "
                    f"{dict(wanted.remedies).get(column, '')}"
                )
        line = 1
        for batch in stream.iter_batches(PARQUET_ROWS, columns=wanted.columns):
            columns = {column: batch.column(column) for column in wanted.columns}

            def text(row: int, batch: pa.RecordBatch = batch) -> bytes:
                return json.dumps(batch.slice(row, 1).to_pylist()[0], default=str).encode()

            yield Piece(columns, np.arange(line, line + len(batch)), text, lines=len(batch))
            line += len(batch)


def rows_of(piece: Piece, wanted: Wanted) -> Rows:
    """A piece in our columns, with the day of each row.

    Where something cannot be read, `raw` has the row's text; `fault` says why it is no row at all.
    """
    count = len(piece.line_R)
    columns: dict[str, pa.Array] = {}
    fault_R = np.full(count, None, dtype=object)
    odd_R = np.zeros(count, dtype=bool)
    for want in wanted.fields:
        if not want.column:
            columns[want.name] = pa.array([want.constant] * count, values.TYPES[want.kind])
            continue
        read, failed = value_of(want, piece.columns[want.column], wanted)
        columns[want.name] = read if want.constant is None else read.fill_null(want.constant)
        for reason, rows in failed.items():
            odd_R |= rows
            if want.kind in ("text", "whole", "time"):  # validation judges numbers and labels
                fault_R[rows & (fault_R == None)] = fault_name(want, reason)  # noqa: E711
    ms = times.to_ms(as_times(piece.columns[wanted.time]), wanted.unit, wanted.zone)
    timed_R = ms.is_valid().to_numpy(zero_copy_only=False)
    fault_R[~timed_R & (fault_R == None)] = TIME_UNREADABLE  # noqa: E711
    odd_R |= ~timed_R
    day_R = np.full(count + len(piece.faults), NO_DAY, dtype=np.int64)
    known_ms = ms.fill_null(0).to_numpy(zero_copy_only=False)
    day_R[:count][timed_R] = times.day_numbers(known_ms[timed_R], wanted.zone)
    if wanted.keeps_time:
        columns["time_ms"] = ms
    columns["source_line"] = pa.array(piece.line_R, pa.int64())
    columns["raw"] = raw_texts(piece, np.flatnonzero(odd_R), count, wanted.dialect)
    columns["fault"] = pa.array(fault_R.tolist(), pa.string())
    table = pa.table(columns, schema=wanted.schema)
    if piece.faults:
        table = pa.concat_tables([table, faults_table(piece.faults, wanted)])
    return in_file_order(table, day_R, piece)


def value_of(want: Field, column: pa.Array, wanted: Wanted) -> values.Read:
    """The values of a field, and the rows that failed by reason. Times become milliseconds."""
    if want.kind != "time":
        return values.READERS[want.kind](column, wanted.dialect)
    failed: dict[str, np.ndarray] = {}
    if values.is_text(column.type):
        column, failed = values.text(column, wanted.dialect)
    ms = times.to_ms(column, wanted.unit, wanted.zone)
    unreadable_R = pc.and_(column.is_valid(), ms.is_null()).to_numpy(zero_copy_only=False)
    return ms, failed | {values.UNREADABLE: unreadable_R}


def fault_name(field: Field, reason: str) -> str:
    """Without blanks, which separate the faults of a row."""
    return re.sub(r"\s", "_", f"{field.name}_{reason}")


def as_times(column: pa.Array) -> pa.Array:
    """Bytes as text; bytes that are not UTF-8 are no time."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        return column
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([(value or b"").decode("utf-8", "replace") for value in column.to_pylist()])


def raw_texts(piece: Piece, rows: np.ndarray, count: int, dialect: Dialect) -> pa.Array:
    if not len(rows):
        return pa.nulls(count, pa.string())
    texts: list[str | None] = [None] * count
    for row in rows:
        texts[row] = shown(piece.text(int(row)), dialect)
    return pa.array(texts, pa.string())


def shown(text: bytes, dialect: Dialect) -> str:
    """A text of the file for a person: what is not UTF-8 as escapes, and only so much of it."""
    if dialect.byte == STAND_IN:
        text = text.replace(STAND_IN, dialect.separator.encode())
    cut = text[:LONGEST_SHOWN]
    mark = f" … and {len(text) - len(cut):,} bytes more" if len(cut) < len(text) else ""
    return cut.decode("utf-8", "backslashreplace").rstrip("\r\n") + mark


def faults_table(faults: list[Fault], wanted: Wanted) -> pa.Table:
    """What is no row, as rows of which nothing but the place and the reason is known."""
    columns: dict[str, Any] = {}
    for column in wanted.schema:
        columns[column.name] = pa.nulls(len(faults), column.type)
    columns["source_line"] = pa.array([fault.line for fault in faults], pa.int64())
    columns["raw"] = pa.array([shown(fault.text, wanted.dialect) for fault in faults])
    columns["fault"] = pa.array([fault.reason for fault in faults], pa.string())
    return pa.table(columns, schema=wanted.schema)


def in_file_order(table: pa.Table, day_R: np.ndarray, piece: Piece) -> Rows:
    """Every row in the order of the file's lines."""
    if piece.faults:
        order = np.argsort(table["source_line"].to_numpy(), kind="stable")
        table, day_R = table.take(pa.array(order)), day_R[order]
    return Rows(table, day_R, piece.lines, piece.skipped)
