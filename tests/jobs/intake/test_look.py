"""What is found in the first records of a file, for the ways in which logs are written."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.errors import BadInput
from jobs.intake.look import look

DAY_S = 86_400
START_S = 1_709_252_930  # 2024-03-01 00:28:50


def rows_of(separator: str, count: int = 60) -> list[str]:
    """Lines of user, author and seconds since 1970."""
    return [f"u{n % 9}{separator}p{n % 4}{separator}{START_S + 600 * n}" for n in range(count)]


def text_of(separator: str, header: str | None = None) -> str:
    first = header if header is not None else separator.join(["user", "author", "time"])
    return "\n".join([*([first] if first else []), *rows_of(separator), ""])


def looked(tmp_path, content: bytes | str):
    file = tmp_path / "log"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return look(file)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", "||", "\x01", "^", "~"])
def test_separators(tmp_path, separator):
    found = looked(tmp_path, text_of(separator))
    assert found.separator.value == separator
    assert found.names == ["user", "author", "time"]
    assert [column.kind for column in found.columns][2] == "time"


@pytest.mark.parametrize(
    ("text", "separator", "names"),
    [
        (text_of(" ", ""), "whitespace", ["1", "2", "3"]),
        (text_of("   ", ""), "whitespace", ["1", "2", "3"]),
        ("% sym weighted\n% 60 9 4\n" + text_of(" ", ""), "whitespace", ["1", "2", "3"]),
        ("# from to when\n" + text_of("\t", ""), "\t", ["1", "2", "3"]),
        (text_of("::", ""), "::", ["1", "2", "3"]),
        # The clock time after a blank, and the comma of decimals, are no separators.
        ("user;at;v\n" + "u1;2024-03-01 10:00:00;1,5\n" * 9, ";", ["user", "at", "v"]),
        ("user,at\n" + "u1,2024-03-01 10:00:00\n" * 9, ",", ["user", "at"]),
        # The last field of some edges is missing.
        ("".join(f"{n} 2 {START_S + n}{' RT' * (n % 2)}\n" for n in range(9)), "whitespace",
         ["1", "2", "3", "4"]),
        # A separator at the end of every line but the header's.
        ("user,time\n" + f"u1,{START_S},\n" * 9, ",", ["user", "time"]),
    ],
)  # fmt: skip
def test_separators_that_others_resemble(tmp_path, text, separator, names):
    found = looked(tmp_path, text)
    assert found.separator.value == separator
    assert found.names == names
    assert any(column.kind == "time" for column in found.columns)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_look_like_their_content(tmp_path, pack):
    plain, packed = looked(tmp_path, text_of(",")), looked(tmp_path, pack(text_of(",").encode()))
    assert packed.compression
    assert packed.columns == plain.columns


@pytest.mark.parametrize(
    ("encoding", "found", "sure"),
    [
        ("utf-8", "utf-8", True),
        ("utf-8-sig", "utf-8", True),
        ("utf-16", "utf-16", True),
        ("utf-16-le", "utf-16-le", False),
        ("latin-1", "latin-1", False),
        ("cp1252", "cp1252", False),
    ],
)
def test_encodings(tmp_path, encoding, found, sure):
    """José and a euro sign, which only cp1252 has of the single-byte encodings."""
    sign = "€" if encoding == "cp1252" else "é"
    text = text_of(",").replace("u3", f"José{sign}")
    seen = looked(tmp_path, text.encode(encoding))
    assert (seen.encoding.value, seen.encoding.sure) == (found, sure)
    assert seen.names == ["user", "author", "time"]
    assert seen.columns[0].distinct == 9


def test_a_few_wrong_bytes_are_no_other_encoding(tmp_path):
    text = text_of(",").replace("u3", "José").encode() + b"Jos\xe9,p1,1709252930\n"
    found = looked(tmp_path, text).encoding
    assert (found.value, found.sure) == ("utf-8", False)
    assert "1 bytes" in found.why


@pytest.mark.parametrize(
    ("text", "quote", "escape"),
    [
        ('u1,"one, two",{t}\n', '"', ""),
        ('u1,"he said ""no""",{t}\n', '"', ""),
        ('u1,"he said \\"no, no\\"",{t}\n', '"', "\\"),
        ('u1,"two\nlines",{t}\n', '"', ""),
        ('u1,"deep" blue,{t}\n', "", ""),
        ('u1,5" pipe,{t}\n', '"', ""),
        ("u1,plain,{t}\n", '"', ""),
        ("u1,'one, two',{t}\n", "'", ""),
        ("u1,Rock 'n' Roll,{t}\n", '"', ""),
    ],
)
def test_quotes(tmp_path, text, quote, escape):
    lines = "".join(text.replace("{t}", str(START_S + n)) for n in range(30))
    found = looked(tmp_path, "user,text,time\n" + lines)
    assert (found.quote.value, found.escape.value) == (quote, escape)
    assert found.rows == 30


def test_one_stray_quote_changes_nothing(tmp_path):
    lines = [f'u{n},"text, {n}",{START_S + n}\n' for n in range(50)]
    lines[20] = f'u20,"text,{START_S}\n'
    assert looked(tmp_path, "user,text,time\n" + "".join(lines)).quote.value == '"'


@pytest.mark.parametrize(
    ("times", "unit", "step"),
    [
        (["2024-03-01", "2024-03-02"], "iso", "day"),
        (["2024/03/01", "2024/03/02"], "iso", "day"),
        (["20240301", "20240302"], "iso", "day"),
        (["2024-03-01T09:30", "2024-03-02 10:31"], "iso", "minute"),
        (["2024-03-01 09:30:01+05:30", "2024-03-02 10:00:00Z"], "iso", ""),
        (["2024-03-01 09:30:01.123456789"], "iso", ""),
        ([str(START_S), str(START_S + 1)], "s", ""),
        ([f"{START_S}.5", f"{START_S}.25"], "s", ""),
        ([str(START_S * 1000)], "ms", ""),
        ([str(START_S * 1_000_000)], "us", ""),
        ([str(START_S * 1_000_000_000)], "ns", ""),
        ([str(20_000 * DAY_S), str(20_001 * DAY_S)], "s", "day"),
        (["0", str(START_S), str(START_S + 1)], "s", ""),  # nothing, written as a number
        (["1970-01-01 00:00:00", "2024-03-01 09:30:01"], "iso", ""),
    ],
)
def test_times(tmp_path, times, unit, step):
    lines = "".join(f"u{n},{times[n % len(times)]}\n" for n in range(20))
    column = looked(tmp_path, "user,at\n" + lines).columns[1]
    assert (column.kind, column.unit, column.step) == ("time", unit, step)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["0", "1"], "label"),
        (["true", "False"], "label"),
        (["1", "2", "3", "4", "5"], "category"),
        (["RT", "MT"], "category"),
        (["0.5", "4.0", "2.5"], "number"),
        ([str(n) for n in range(300)], "id"),
        ([f"user-{n}" for n in range(300)], "id"),
        ([f"{n:064x}" for n in range(300)], "id"),
        (["+0000", "-0500"], "category"),
        ([f"{n} bottles of beer on the wall and {n} bottles of beer" for n in range(300)], "text"),
        (["03/01/2024 9:30", "13.12.2023", "Wed Aug 27 13:08:45 +0000 2008"], "odd_time"),
        (["", "NULL", "\\N"], "empty"),
        # Spread over more than 40 years: Twitter's ids, and no times.
        ([str(700_000_000 + 10_000_000 * n) for n in range(300)], "id"),
    ],
)
def test_what_columns_look_like(tmp_path, values, kind):
    lines = "".join(f"{START_S + n},{values[n % len(values)]}\n" for n in range(300))
    assert looked(tmp_path, "at,x\n" + lines).columns[1].kind == kind


@pytest.mark.parametrize(
    ("first", "header", "sure"),
    [
        ("user,author,time", "yes", True),
        (",user,time", "yes", True),
        (f"u1,p1,{START_S}", "no", True),
        ("1,p1,time", "no", True),
    ],
)
def test_headers(tmp_path, first, header, sure):
    found = looked(tmp_path, first + "\n" + text_of(",", "")).header
    assert (found.value, found.sure) == (header, sure)


def test_a_header_above_texts_is_a_guess(tmp_path):
    found = looked(tmp_path, "user,author\n" + "".join(f"u{n},p{n}\n" for n in range(9))).header
    assert (found.value, found.sure) == ("yes", False)


def test_parquet(tmp_path):
    """Its own types are what they are: nanoseconds, zones, whole numbers in floats, booleans."""
    hour_ns = 3_600_000_000_000
    times = pa.array([START_S * 1_000_000_000 + n * hour_ns for n in range(50)])
    table = pa.table(
        {
            "at": times.cast(pa.timestamp("ns", "Europe/Paris")),
            "day": times.cast(pa.timestamp("ns")).cast(pa.date32(), safe=False),
            "user": pa.array([float(n) if n else None for n in range(50)]),
            "clicked": pa.array([n % 2 == 0 for n in range(50)]),
            "tags": pa.array([["a", "b"]] * 50),
        }
    )
    parquet.write_table(table, tmp_path / "log")
    columns = look(tmp_path / "log").columns
    assert [column.kind for column in columns[:4]] == ["time", "time", "id", "label"]
    assert (columns[0].offset, columns[1].step, columns[2].whole) == (True, "day", True)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"PK\x03\x04rest", "zip archive or an Excel file"),
        (b"SQLite format 3\0rest", "SQLite database"),
        (b'{"user": 1, "time": 2}\n', "JSON"),
        (b"some words about the log\nand more\n", "no columns"),
        (b"user,time\n\0\0\0binary\n", "NUL"),
        (b"PAR1 cut off", "cannot be read"),
        (b"user\tat\n" + b"1\ta\t2024-03-01\n" * 30, "names in its first line"),
    ],
)
def test_what_is_no_log_is_refused_by_name(tmp_path, content, named):
    with pytest.raises(BadInput, match=named):
        looked(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"user,author,time\n", b"# nothing yet\n"])
def test_files_without_rows(tmp_path, content):
    assert looked(tmp_path, content).format == "empty"


def test_a_large_file_is_looked_at_in_its_beginning_only(tmp_path):
    """Bytes after the sample are not read: here they are broken."""
    text = gzip.compress(text_of(",").encode() * 4000, mtime=0)
    found = looked(tmp_path, text[: len(text) - 100])
    assert not found.complete
    assert found.names == ["user", "author", "time"]
