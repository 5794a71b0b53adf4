"""What to change in the settings where a file is read otherwise than it is written.

For a file of which hardly a row has a time: in another unit or column, there may be some.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from jobs.errors import BadInput
from jobs.intake.content import Column, day_of
from jobs.intake.dialect import WHITE_SPACE, Dialect
from jobs.intake.fields import header_names
from jobs.intake.look import (
    SAMPLE_BYTES,
    UNREADABLE,
    Finding,
    Sample,
    beginning,
    block_of,
    columns_in,
    look_at_parquet,
    looks_typed,
    shown_line,
    widths,
)
from jobs.intake.reading import Wanted, is_parquet
from jobs.intake.records import Block
from jobs.intake.streams import chunks


def misread(file: Path, wanted: Wanted) -> str:
    """What to change in the settings where another unit or column gives plausible times.

    For a file whose times cannot be read, or are those of 1970. Empty where nothing better is
    found: a simulated log may begin in 1970.
    """
    try:
        columns = columns_as_read(file, wanted)
    except (BadInput, *UNREADABLE):
        return ""
    if first := first_row(file, wanted):
        return (
            f"The first line of {file} is not the names of its columns but a row: {first!r}. Add "
            "the names; where no file has them, set source.names."
        )
    named = re.search(r"source\.[a-z_.]*[a-z_]", dict(wanted.remedies).get(wanted.time, ""))
    setting = named[0] if named else "source.columns.time"
    now = next((column for column in columns if column.name == wanted.time), None)
    if now is not None and now.kind == "time":
        if now.unit in ("", wanted.unit):
            return ""
        return (
            f"The times of {file} were read as source.time_unit = '{wanted.unit}'. As "
            f"'{now.unit}' they are from {range_of(now)}: set source.time_unit = '{now.unit}'."
        )
    better = [column for column in columns if column.kind == "time"]
    if not better:
        return ""
    found = better[0]
    unit = "" if found.unit in ("", wanted.unit) else f" and source.time_unit = '{found.unit}'"
    if setting == "source.fields":
        place = columns.index(found)
        fields = fields_with_time(list(wanted.dialect.names), place, now)
        return (
            f"{file} has no times in field {wanted.dialect.names.index('time') + 1}, which "
            f"source.fields names, and times from {range_of(found)} in field {place + 1}: set "
            f"source.fields = {json.dumps(fields)}{unit}."
        )
    return (
        f"{file} has no times in column '{wanted.time}', which {setting} names, and times from "
        f"{range_of(found)} in column '{found.name}': set {setting} = '{found.name}'{unit}."
    )


def clock_apart(file: Path, wanted: Wanted) -> str:
    """What to change where blanks divide a date from its clock, which is then read as a kind."""
    if wanted.unit != "iso" or wanted.dialect.separator != WHITE_SPACE:
        return ""
    texts = [field.column for field in wanted.fields if field.kind == "text"]
    for column in columns_as_read(file, wanted):
        if column.name in texts and column.is_clock:
            return (
                f"{file} has clock times such as {column.examples[0]} in field '{column.name}', "
                "divided from their dates by the separator, and a time is read from one field. "
                "Write 2024-03-01T10:00:00; or do not name that field, or name it 'skip': then the "
                "days are right, and the order within a day is not."
            )
    return ""


def first_row(file: Path, wanted: Wanted) -> str:
    """The first line of a text without a header, where the settings expect one; else empty."""
    if is_parquet(file) or wanted.dialect.names:
        return ""
    block = sampled(file, wanted.dialect)
    names = header_names(block.text(0), wanted.dialect) if len(block) else []
    if set(names) & set(wanted.columns) or not any(map(looks_typed, names)):
        return ""
    return shown_line(block)


def sampled(file: Path, dialect: Dialect) -> Block:
    """The first records of a text, as the settings say that it is written."""
    data, _ = beginning(file, SAMPLE_BYTES)
    text = next(chunks(io.BytesIO(data[: data.rfind(b"\n") + 1] or data), dialect.encoding), b"")
    return block_of(Sample(text, Finding(dialect.encoding), False), dialect)


def columns_as_read(file: Path, wanted: Wanted) -> list[Column]:
    """The columns of a file, read in the dialect of the settings."""
    if is_parquet(file):
        return list(look_at_parquet(file).columns)
    dialect = wanted.dialect
    block = sampled(file, dialect)
    if not len(block):
        return []
    width, _ = widths(block, dialect)
    names = list(dialect.names)
    if not names:
        names = header_names(block.text(0), dialect)
        block = block.without_first()
        if len(names) < width:  # which name is that of which field?
            return []
    names += [str(at + 1) for at in range(len(names), width)]
    return list(columns_in(block, dialect, width, names))


def range_of(times: Column) -> str:
    return f"{day_of(times.first_ms)} to {day_of(times.last_ms)}"


def fields_with_time(fields: list[str], place: int, now: Column | None) -> list[str]:
    """The fields of a list of edges with the time at this place.

    now: what was read as the time: a weight or a kind, or nothing that is known.
    """
    old = fields.index("time")
    if place < old:  # the others keep their order behind it
        fields.insert(place, fields.pop(old))
        return fields
    fields += ["skip"] * (place + 1 - len(fields))
    taken = {name for name in fields[:place] if name != "time"}
    what = "value" if now is not None and now.numeric else "kind"
    fields[old] = what if now is not None and what not in taken else "skip"
    fields[place] = "time"
    return fields[: place + 1]
