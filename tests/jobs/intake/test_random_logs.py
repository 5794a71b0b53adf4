"""Random logs in random dialects: every row that was written is read as it was, or put aside."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.intake.dialect import Dialect
from jobs.intake.index import read_log
from jobs.intake.reading import Field, Wanted

START = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp())
PACK = {"": lambda data: data, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
TIMES = {
    "s": lambda at: str(at),
    "ms": lambda at: str(at * 1000),
    "ns": lambda at: str(at * 10**9),
    "iso": lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
}
NAMES = ["user", "author", "note", "at"]


@dataclass(frozen=True)
class Style:
    """How a log is written."""

    separator: str
    line_end: str
    encoding: str
    pack: str
    unit: str
    escape: str
    always_quoted: bool
    blanks: bool
    mark: bool
    header: bool

    def field(self, text: str) -> str:
        special = (self.separator, '"', "\n", "\r", "\\")
        if self.always_quoted or any(mark in text for mark in special) or text != text.strip():
            escaped = text.replace("\\", "\\\\") if self.escape else text
            text = '"' + escaped.replace('"', '\\"' if self.escape else '""') + '"'
        return f" {text}" if self.blanks else text

    def line(self, fields: list[str]) -> str:
        return self.separator.join(self.field(text) for text in fields) + self.line_end


STYLES = st.builds(
    Style,
    separator=st.sampled_from([",", ";", "\t", "|", "::"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16"]),
    pack=st.sampled_from(sorted(PACK)),
    unit=st.sampled_from(sorted(TIMES)),
    escape=st.sampled_from(["", "\\"]),
    always_quoted=st.booleans(),
    blanks=st.booleans(),
    mark=st.booleans(),
    header=st.booleans(),
)
ID = st.text(st.sampled_from("aé7-_.|;\\"), min_size=1, max_size=5).map(lambda text: f"u{text}")
NOTE = st.text(st.sampled_from('x", \n\\;:|ü\t'), max_size=8)
ROW = st.tuples(ID, ID, NOTE, st.integers(0, 3 * 86_400))
# Lines that are no rows, each with the reason.
BROKEN = {
    "fields_missing": lambda style: f"u{style.separator}p{style.line_end}",
    "fields_too_many": lambda style: style.line(["u", "p", "n", str(START), "more"]),
    "time_unreadable": lambda style: style.line(["u", "p", "n", "never"]),
    "quote_not_closed": lambda style: f'u{style.separator}"p{style.line_end}',
    "": lambda style: style.line_end,
}
# A row, and what is broken after it; with more broken lines than rows, the file is refused.
LINES = st.lists(
    st.tuples(ROW, st.none() | st.sampled_from(sorted(BROKEN))), min_size=1, max_size=12
)


@settings(max_examples=80, deadline=None)
@given(style=STYLES, lines=LINES)
def test_every_line_lands_on_its_day_or_is_put_aside_with_its_reason(style, lines):
    text = style.line(NAMES) if style.header else ""
    expected, aside = [], []
    lines = [(("u", "p", "", 0), None)] * 5 + lines
    # A quote that is never closed could be closed by one in a later text: then texts have none.
    plain = any(broken == "quote_not_closed" for _, broken in lines)
    for (user, author, note, second), broken in lines:
        if plain:
            note = "".join(mark for mark in note if mark not in f'"\n{style.separator}')
        text += style.line([user, author, note, TIMES[style.unit](START + second)])
        expected.append((user, author, note.strip() or None, (START + second) * 1000))
        if broken is not None:
            text += BROKEN[broken](style)
            aside += [broken] if broken else []
    mark = "\ufeff" if style.mark and style.encoding == "utf-8" else ""
    rows, lines_read = landed(style, (mark + text).encode(style.encoding, "replace"))
    good = [
        tuple(row[name] for name in ("c", "p", "n", "time_ms")) for row in rows if not row["fault"]
    ]
    assert sorted(map(repr, good)) == sorted(map(repr, expected))
    assert sorted(row["fault"] for row in rows if row["fault"]) == sorted(aside)
    assert lines_read == text.count("\n")


def landed(style: Style, data: bytes) -> tuple[list[dict], int]:
    """All rows that the days of the log have, and the number of lines in its account."""
    fields = (Field("c", "user"), Field("p", "author"), Field("n", "note"))
    dialect = Dialect(
        separator=style.separator,
        escape=style.escape,
        encoding=style.encoding,
        names=() if style.header else tuple(NAMES),
        nulls=("",),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "log")
        file.write_bytes(PACK[style.pack](data))
        wanted = Wanted(fields, "at", style.unit, "UTC", dialect)
        log = read_log({file: wanted}, Path(folder, "intake"))
        (found,) = log.files
        rows = []
        for day in found.days:
            assert isinstance(day, date)
            for part in found.rows_of(day):
                rows += pq.read_table(part).to_pylist()
        return rows, found.account.lines
