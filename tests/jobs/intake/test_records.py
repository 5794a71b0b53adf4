"""Where records begin and end, by Python's csv module and by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import BadInput
from jobs.intake import records, streams
from jobs.intake.dialect import Dialect
from jobs.intake.reading import Field, Wanted, rows_of, text_pieces

TEXT = st.text(st.sampled_from('ab"",;\n\r\t :|é#\\'), max_size=6)
SEPARATORS = st.sampled_from([",", ";", "\t", "|", "::", "||"])
ENDS = st.sampled_from(["\n", "\r\n"])
DAY_S = 1709251200


def read(text: str | bytes, **options) -> list[dict]:
    """The rows of a file with the columns user, author, text and time, as dictionaries."""
    data = text.encode() if isinstance(text, str) else text
    fields = (Field("consumer_id", "user"), Field("producer_id", "author"), Field("ctx", "text"))
    wanted = Wanted(fields, "time", "s", "UTC", Dialect(**options))
    rows = []
    for piece in text_pieces(io.BytesIO(data), wanted, Path("log.csv")):
        rows += rows_of(piece, wanted).table.to_pylist()
    return rows


def good(rows: list[dict]) -> list[tuple]:
    found = [row for row in rows if row["fault"] is None]
    return [(row["consumer_id"], row["producer_id"], row["ctx"]) for row in found]


def bad(rows: list[dict]) -> list[tuple]:
    return [(row["source_line"], row["fault"]) for row in rows if row["fault"] is not None]


HEADER = "user,author,text,time\n"


def line(user: str, text: str = "x", author: str = "p") -> str:
    return f"{user},{author},{text},{DAY_S}\n"


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=8), separator=SEPARATORS, end=ENDS)
def test_what_a_csv_writer_has_quoted_is_read_as_it_was(texts, separator, end):
    """Whatever somebody writes stays within its own record."""
    lines = [separator.join(["user", "author", "text", "time"])]
    for number, text in enumerate(texts):
        quoted = '"' + text.replace('"', '""') + '"'
        lines.append(separator.join([f"u{number}", "p", quoted, str(DAY_S)]))
    rows = read(end.join([*lines, ""]), separator=separator, nulls=())
    assert bad(rows) == []
    read_back = [text for _, _, text in good(rows)]
    # Double returns become single line breaks; blanks around a value are not part of it.
    assert [shape(text) for text in read_back] == [shape(text.strip()) for text in texts]


def shape(text: str) -> str:
    while "\r\r" in text:
        text = text.replace("\r\r", "\r")
    return text.replace("\r\n", "\n")


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text(st.sampled_from('a,"\n'), max_size=4), min_size=1, max_size=20),
    chunk=st.integers(1, 40),
)
def test_the_size_of_the_pieces_of_a_file_changes_nothing(texts, chunk):
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["user", "author", "text", "time"])
    for number, text in enumerate(texts):
        writer.writerow([number, "p", text, DAY_S])
    whole = read(buffer.getvalue())
    before = streams.CHUNK
    try:
        streams.CHUNK = chunk
        assert read(buffer.getvalue()) == whole
    finally:
        streams.CHUNK = before


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.sampled_from('ab",\n\r;x'), max_size=60),
    quote=st.sampled_from(['"', ""]),
    escape=st.sampled_from(["", "\\"]),
)
def test_every_line_of_any_text_is_counted_once(text, quote, escape):
    """Random text after two good lines: rows, faults and skipped lines cover every line."""
    data = HEADER + line("u1") + text
    fields = (Field("consumer_id", "user"),)
    wanted = Wanted(fields, "time", "s", "UTC", Dialect(quote=quote, escape=escape))
    pieces = list(text_pieces(io.BytesIO(data.encode()), wanted, Path("log.csv")))
    lines = data.replace("\r\r", "\r").count("\n") + (not data.endswith("\n"))
    assert sum(piece.lines for piece in pieces) == lines
    rows = [row for piece in pieces for row in rows_of(piece, wanted).table.to_pylist()]
    numbers = [row["source_line"] for row in rows]
    assert numbers == sorted(set(numbers)) or len(set(numbers)) == len(numbers)
    assert rows[0]["consumer_id"] == "u1"


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet='"",\n\r\\ ax', max_size=60), escape=st.sampled_from(["", "\\"]))
def test_a_python_whose_possessive_repeats_are_broken_reads_the_same(text, escape):
    """That of Debian 12, among others. Its patterns may backtrack, and have no other match."""
    expected = read(HEADER + text, escape=escape)
    with pytest.MonkeyPatch.context() as older:
        older.setattr(records, "POSSESSIVE", False)
        older.setattr(records, "MANY", b"*")
        assert read(HEADER + text, escape=escape) == expected


@pytest.mark.parametrize(
    ("text", "faults", "users"),
    [
        # One quote that is never closed: one bad line.
        (line("u1", '"x') + line("u2") + line("u3"), [(2, "quote_not_closed")], ["u2", "u3"]),
        (line("u1") + line("u2", '"x') + line("u3"), [(3, "quote_not_closed")], ["u1", "u3"]),
        # Two of them, each in a line of its own.
        (
            line("u1", '"x') + line("u2") + line("u3", '"y') + line("u4"),
            [(2, "quote_not_closed"), (4, "quote_not_closed")],
            ["u2", "u4"],
        ),
        # A quote that is not doubled: the record up to its end, line breaks included.
        (line("u1", '"a "b" c"') + line("u2"), [(2, "quote_not_doubled")], ["u2"]),
        (
            line("u1", f'"a "b" x\nu9,mallory,x,{DAY_S}\nc"') + line("u2"),
            [(2, "quote_not_doubled")],
            ["u2"],
        ),
        # In a field without quotes around it, a quote is a character.
        (line("u1", '5" disk') + line("u2"), [], ["u1", "u2"]),
        ("u1,p\n" + line("u2"), [(2, "fields_missing")], ["u2"]),
        (line("u1", "a,b") + line("u2"), [(2, "fields_too_many")], ["u2"]),
        # Empty fields at the end, blank lines and lines of blanks are no fault.
        (line("u1").replace("\n", ",,\n") + "\n   \n" + line("u2"), [], ["u1", "u2"]),
        ("u1,p,a\rb,1\n" + line("u2"), [(2, "carriage_return_in_line")], ["u2"]),
    ],
)
def test_the_smallest_piece_that_is_no_record_is_put_aside(text, faults, users):
    rows = read(HEADER + text)
    assert bad(rows) == faults
    assert [user for user, _, _ in good(rows)] == users


def test_a_file_that_was_cut_within_quoted_text_gives_no_rows_of_that_text():
    forged = line("u9", author="mallory") * 3
    rows = read(HEADER + line("u1") + f'u2,p,"hello\n{forged}u9,mal')
    assert good(rows) == [("u1", "p", "x")]
    assert bad(rows) == [(3, "quote_not_closed")]


@pytest.mark.parametrize("return_", ["\n", "\r", "\r\n"])
def test_no_text_of_a_user_becomes_a_row(return_):
    forged = return_.join(line("u9", author="mallory").strip() for _ in range(3))
    rows = read(HEADER + line("u1", f'"hello{return_}{forged}{return_}"') + line("u2"))
    assert [user for user, _, _ in good(rows)] == ["u1", "u2"]
    assert bad(rows) == []


def test_a_backslash_escapes_where_the_settings_say_so():
    text = HEADER + line("u1", r'"say \"hi\", \\ you"') + line("u2", r"a\,b")
    rows = read(text, escape="\\")
    assert good(rows) == [("u1", "p", 'say "hi", \\ you'), ("u2", "p", "a,b")]


@pytest.mark.parametrize(
    "header",
    [
        "\ufeffuser,author,text,time",
        '\ufeff"user","author","text","time"',
        " user , author , text , time ",
        "user,author,text,time,,",
    ],
)
def test_a_header_is_read_with_marks_blanks_and_quotes(header):
    assert good(read(f"{header}\n{line('u1')}")) == [("u1", "p", "x")]


def test_columns_that_nobody_asked_for_may_have_any_names():
    text = f"user,author,,x,x,Text,`,text,time\nu1,p,1,2,3,4,5,t,{DAY_S}\n"
    assert good(read(text)) == [("u1", "p", "t")]


def test_a_column_that_is_there_twice_is_refused_by_name():
    with pytest.raises(BadInput, match=r"has 2 columns 'user'; expected one"):
        read(f"user,user,author,text,time\n1,2,3,4,{DAY_S}\n")


def test_a_quote_that_stays_open_for_a_megabyte_is_never_closed():
    text = HEADER + line("u0", '"open') + line("u1") * 80_000
    rows = read(text)
    assert bad(rows) == [(2, "quote_not_closed")]
    assert len(good(rows)) == 80_000


def test_old_macintosh_line_ends_are_line_ends():
    assert len(good(read((HEADER + line("u1") + line("u2")).replace("\n", "\r")))) == 2


def test_quotes_in_comments_count_for_nothing():
    comment = '# shop, "A&B, "\n'
    text = HEADER + comment + line("u1", '"x"') + comment + line("u2", '"a\n# b"')
    rows = read(text, comments="#")
    assert good(rows) == [("u1", "p", "x"), ("u2", "p", "a\n# b")]
    assert bad(rows) == []


def test_blanks_around_quotes_are_no_text_where_a_later_quote_is_never_closed():
    text = HEADER + line("u1", ' "a,b" ') + '"bad,\n' + line("u2")
    rows = read(text)
    assert good(rows) == [("u1", "p", "a,b"), ("u2", "p", "x")]


def test_nothing_as_mysql_writes_it_is_no_letter():
    text = HEADER + line(r"\N", r"\N") + line("u2", r'"say \"hi\""') + line("N")
    users = [(row["consumer_id"], row["ctx"]) for row in read(text, escape="\\")]
    assert users == [(None, None), ("u2", 'say "hi"'), ("N", "x")]


def test_half_a_pair_in_utf_16_is_put_aside():
    data = (HEADER + line("u1")).encode("utf-16-le") + line("u2").encode("utf-16-le")
    half = b"\x3d\xd8"
    rows = read(b"\xff\xfe" + data + half + line("u3").encode("utf-16-le"), encoding="utf-16")
    assert [row["fault"] for row in rows] == [None, None, "consumer_id_not_utf8"]


def test_a_long_text_is_kept_in_part_where_it_is_put_aside():
    (row,) = [row for row in read(HEADER + line("u1") + "x" * 200_000 + ",\n") if row["fault"]]
    assert row["raw"].endswith("bytes more")
    assert len(row["raw"]) < 70_000


def test_a_field_may_be_longer_than_python_allows_by_default():
    text = HEADER + line("u1") + f"{'a' * 140_000},p,x,1,2\n"
    assert bad(read(text)) == [(3, "fields_too_many")]
