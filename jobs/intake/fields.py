"""From records to columns of text. Arrow takes the fields apart."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from jobs.intake.dialect import WHITE_SPACE, Dialect
from jobs.intake.records import Block, Fault, joined
from jobs.intake.streams import LONGEST_LINE

TOO_FEW = "fields_missing"
TOO_MANY = "fields_too_many"


@dataclass(frozen=True)
class Columns:
    """Columns of a block, as bytes.

    record_R: the record of the block that each row is. blank: records of blanks only.
    """

    columns: list[pa.Array]
    record_R: np.ndarray
    faults: list[Fault]
    blank: int = 0


def columns_of(block: Block, dialect: Dialect, names: list[str], wanted: list[int]) -> Columns:
    """The columns at these places, from 0, of all records with a field for each name.

    Empty fields beyond these are no fault, and neither are missing ones at the end that have no
    name or are optional. Every record is a row, a fault, or blank.
    """
    if dialect.separator == WHITE_SPACE:
        return ragged_columns(block, dialect, wanted)
    width = len(names)
    named = max((place + 1 for place, name in enumerate(names) if name), default=width)
    least = named - dialect.optional
    columns, wrong = parsed(block.data, len(block), dialect, width, wanted)
    if not wrong:
        return Columns(columns, np.arange(len(block)), [])
    right = np.delete(np.arange(len(block)), wrong)
    faults: list[Fault] = []
    texts: list[bytes] = []
    changed: list[int] = []
    blank = 0
    for record in wrong:
        text = block.text(record)
        fields = taken_apart(text, dialect)
        if not text.strip():
            blank += 1
        elif len(fields) > width and not any(field.strip() for field in fields[width:]):
            texts.append(without_end(text, dialect, len(fields) - width))
            changed.append(record)
        elif least <= len(fields) < width:
            missing = width - len(fields)
            texts.append(without_break(text, dialect) + dialect.byte * missing + b"\n")
            changed.append(record)
        else:
            reason = TOO_FEW if len(fields) < width else TOO_MANY
            lines = text.count(b"\n")
            faults.append(Fault(int(block.line_R[record]), text, reason, lines))
    if not texts:
        return Columns(columns, right, faults, blank)
    more, left = parsed(b"".join(texts), len(texts), dialect, width, wanted)
    assert not left, "a record with empty fields taken away or added has as many as the header"
    both = [pa.concat_arrays([one, other]) for one, other in zip(columns, more, strict=True)]
    record_R = np.concatenate([right, np.array(changed, dtype=np.int64)])
    order = np.argsort(record_R, kind="stable")
    return Columns(
        [column.take(pa.array(order)) for column in both], record_R[order], faults, blank
    )


def ragged_columns(block: Block, dialect: Dialect, wanted: list[int]) -> Columns:
    """The same of records without quotes that differ in length: null where one is too short."""
    bytes_ = np.frombuffer(block.data, dtype=np.uint8)
    separators = np.flatnonzero(bytes_ == dialect.byte[0])
    upto = np.searchsorted(separators, np.append(block.start_R, len(bytes_)))
    width_R = np.diff(upto) + 1
    columns: list[list[pa.Array]] = [[] for _ in wanted]
    record_R = []
    for width in np.unique(width_R):
        records = np.flatnonzero(width_R == width)
        data = joined_records(block, records)
        read = [at for at in wanted if at < width]
        found, wrong = parsed(data, len(records), dialect, int(width), read)
        if wrong:
            raise UnicodeError("it has quotes: a log separated by blanks is read with quote = ''")
        there = iter(found)
        for column, at in zip(columns, wanted, strict=True):
            column.append(next(there) if at < width else pa.nulls(len(records), pa.binary()))
        record_R.append(records)
    if not record_R:
        return Columns([pa.array([], pa.binary()) for _ in wanted], np.zeros(0, np.int64), [])
    rows = np.concatenate(record_R)
    order = np.argsort(rows, kind="stable")
    arrays = [pa.concat_arrays(parts).take(pa.array(order)) for parts in columns]
    return Columns(arrays, rows[order], [])


def joined_records(block: Block, records: np.ndarray) -> bytes:
    """Some records of a block, one after another."""
    if len(records) == len(block):
        return block.data
    ends = np.append(block.start_R[1:], len(block.data))
    return joined(block.data, block.start_R[records], ends[records])[0]


def parsed(
    data: bytes, records: int, dialect: Dialect, width: int, wanted: list[int]
) -> tuple[list[pa.Array], list[int]]:
    """The wanted columns of the records with `width` fields, and the numbers of the others."""
    if not data:
        return [pa.array([], pa.binary()) for _ in wanted], []
    names = [f"c{place}" for place in range(width)]
    wrong: list[int] = []

    def put_aside(row: arrow_csv.InvalidRow) -> str:
        wrong.append(row.number - 1)
        return "skip"

    # Arrow hands over a wrong row as text, and stops where it is not UTF-8. As Latin-1, every byte
    # is a character of at most two bytes.
    readable = is_utf8(data)
    table = arrow_csv.read_csv(
        pa.py_buffer(data),
        # In one thread, because only then Arrow tells the numbers of wrong rows; as one block.
        arrow_csv.ReadOptions(
            use_threads=False,
            column_names=names,
            block_size=(1 if readable else 2) * len(data) + 1,
            encoding="utf8" if readable else "latin-1",
        ),
        arrow_csv.ParseOptions(
            delimiter=dialect.byte.decode(),
            quote_char=dialect.quote or False,
            escape_char=dialect.escape or False,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=put_aside,
        ),
        arrow_csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.binary()),
            include_columns=[names[place] for place in sorted(set(wanted))],
            strings_can_be_null=False,
        ),
    )
    if table.num_rows + len(wrong) != records:
        # No row may get the line, and with it the day, of another one.
        raise UnicodeError(
            f"{records:,} records were read as {table.num_rows + len(wrong):,}. This is a fault of "
            "Evergreen: report it, with the lines that lead to it"
        )
    columns = [table.column(names[place]).combine_chunks() for place in wanted]
    return columns if readable else [as_bytes(column) for column in columns], wrong


def is_utf8(data: bytes) -> bool:
    """By Arrow, eight times as fast as Python, which makes a text of it."""
    bounds = pa.py_buffer(np.array([0, len(data)], dtype=np.int64))
    whole = pa.Array.from_buffers(pa.large_binary(), 1, [None, bounds, pa.py_buffer(data)])
    try:
        whole.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def as_bytes(column: pa.Array) -> pa.Array:
    """The bytes of values that were read as Latin-1."""
    values = [value.decode().encode("latin-1") for value in column.to_pylist()]
    return pa.array(values, pa.binary())


csv.field_size_limit(LONGEST_LINE)


def taken_apart(record: bytes, dialect: Dialect) -> list[str]:
    """The fields of one record."""
    reader = csv.reader(
        [without_break(record, dialect).decode("utf-8", "surrogateescape")],
        delimiter=dialect.byte.decode(),
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
    )
    return next(reader, [])


def without_break(record: bytes, dialect: Dialect) -> bytes:
    """The record without its line break; a carriage return that is escaped belongs to a field."""
    text = record.rstrip(b"\r\n")
    if dialect.escape:
        escapes = len(text) - len(text.rstrip(dialect.escape.encode()))
        if escapes % 2:
            return record.removesuffix(b"\n")
    return text


def without_end(record: bytes, dialect: Dialect, fields: int) -> bytes:
    """The record without so many empty fields at its end."""
    text = without_break(record, dialect)
    for _ in range(fields):
        text = text[: text.rindex(dialect.byte)]
    return text + b"\n"


def header_names(record: bytes, dialect: Dialect) -> list[str]:
    """The column names in a header, without blanks around them."""
    return [name.strip() for name in taken_apart(record, dialect)]


def places(names: list[str], wanted: str) -> list[int]:
    """Where a column of this name is; a name counts only as it is written."""
    return [place for place, name in enumerate(names) if name == wanted]
