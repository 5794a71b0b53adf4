"""Files as they come out of tools, disks and archives: each line lands, or is put aside by name."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.intake.dialect import Dialect
from jobs.intake.index import LogFile, read_log
from jobs.intake.reading import Field, Wanted
from jobs.sources.edgelist import Edgelist, EdgelistSettings
from jobs.sources.files import find_files

START_S = 1_709_287_200  # 2024-03-01 10:00:00
HEADER = b"user,author,time\n"
ROWS = b"".join(b"u%d,a,%d\n" % (n, START_S + n) for n in range(30))


def wanted_of(unit: str = "s", **dialect) -> Wanted:
    fields = (Field("consumer_id", "user"), Field("producer_id", "author"))
    return Wanted(fields, "time", unit, "UTC", Dialect(**dialect))


def read(folder: Path, content: bytes, wanted: Wanted | None = None) -> tuple[LogFile, list[dict]]:
    """A file as it was read, and its rows."""
    file = folder / "file"
    file.write_bytes(content)
    (found,) = read_log({file: wanted or wanted_of()}, folder / "intake").files
    rows = []
    for day in found.days:
        for part in found.rows_of(day):
            rows += pq.read_table(part).to_pylist()
    return found, rows


def parquet_of(**columns: pa.Array) -> bytes:
    stream = io.BytesIO()
    count = len(next(iter(columns.values())))
    usual: dict[str, object] = {"user": [f"u{n}" for n in range(count)], "author": ["a"] * count}
    usual["time"] = [START_S + n for n in range(count)]
    pq.write_table(pa.table(usual | columns), stream)
    return stream.getvalue()


# --- lines


LINE = st.tuples(
    st.sampled_from([b"Jos\xe9", b"Jos\xc3\xa9", b"u1", b"\xff\xfe"]),
    st.sampled_from([b"", b",a", b",a,1709287200", b",a,1709287200,", b",a,1709287200,more"]),
)


@given(lines=st.lists(LINE, min_size=1, max_size=12))
def test_wrong_bytes_in_a_line_of_another_length_cost_that_line_only(tmp_path_factory, lines):
    """One line in Latin-1 with a field too few once cost the whole file."""
    folder = tmp_path_factory.mktemp("log")
    text = HEADER + ROWS + b"".join(user + rest + b"\n" for user, rest in lines)
    found, rows = read(folder, text)
    reasons = []
    for user, rest in lines:
        count = rest.rstrip(b",").count(b",")
        whole = user in (b"u1", b"Jos\xc3\xa9")
        reason = None if whole else "consumer_id_not_utf8"
        reasons.append(
            {0: "fields_missing", 1: "fields_missing", 3: "fields_too_many"}.get(count, reason)
        )
    assert found.account.trouble == ""
    assert [row["fault"] for row in rows] == [None] * 30 + reasons
    assert [row["source_line"] for row in rows] == list(range(2, 32 + len(lines)))


@pytest.mark.parametrize("line", [b"C:\\", b"u1,C:\\", b",,,\\", b"u1,a,1709287200,,\\"])
def test_an_escape_at_the_end_of_a_line_of_another_length_costs_that_line(tmp_path, line):
    """It escapes the carriage return: the separators that are missing must not follow it."""
    names = ("user", "author", "time", "note", "more")
    text = (ROWS + line + b"\n" + ROWS).replace(b"\n", b"\r\n")
    wanted = wanted_of(escape="\\", names=names, optional=3)
    found, rows = read(tmp_path, text, wanted)
    assert (found.account.trouble, len(rows)) == ("", 61)
    assert [row["fault"] for n, row in enumerate(rows) if n != 30] == [None] * 60


@pytest.mark.parametrize("header", [HEADER, b""])
def test_a_byte_order_mark_before_any_line_is_no_part_of_an_id(tmp_path, header):
    """As where files were put together, or one was marked twice."""
    marked = b"\xef\xbb\xbf" + header + ROWS
    names = () if header else ("user", "author", "time")
    _, rows = read(tmp_path, b"\xef\xbb\xbf" + marked + marked, wanted_of(names=names))
    ids = [row["consumer_id"] for row in rows if row["fault"] is None]
    assert ids == 2 * [f"u{n}" for n in range(30)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_marked_encoding_is_named(tmp_path, encoding):
    text = (HEADER + ROWS).decode().encode(encoding)
    found, _ = read(tmp_path, text)
    assert f"set source.encoding = '{encoding}'" in found.account.trouble
    assert "fetch it again" not in found.account.trouble
    _, rows = read(tmp_path, text, wanted_of(encoding=encoding))
    assert len(rows) == 30


@pytest.mark.parametrize(
    "text",
    [
        b'"user,author,time\nu1,a,1709287200',
        b'{"user": "u1"}\n' * 30,
        b"user,author,time\ru1,a,1709287200\r\n",
    ],
)
def test_a_file_without_any_record_is_named(tmp_path, text):
    found, _ = read(tmp_path, text)
    assert str(found.path) in found.account.trouble


def test_a_row_in_the_place_of_the_names_is_told(tmp_path):
    found, _ = read(tmp_path, ROWS)
    assert f"{tmp_path / 'file'} is not the names of its columns but a row" in found.account.trouble


def test_a_column_may_be_called_by_a_number(tmp_path):
    """As pandas calls those of an array: what is wrong is the unit of the time."""
    found, _ = read(
        tmp_path,
        b"0,1," + HEADER + b"".join(b"1,2,%b\n" % r for r in ROWS.split()),
        wanted_of("iso"),
    )
    assert "set source.columns.time = 'time' and source.time_unit" not in found.account.trouble
    assert "source.time_unit = 's'" in found.account.trouble


@pytest.mark.parametrize("separator", ["whitespace", ",", "::"])
def test_the_kind_of_an_edge_may_be_missing_whatever_the_separator(tmp_path, separator):
    file = tmp_path / "edges"
    between = " " if separator == "whitespace" else separator
    lines = [["1", "2", str(START_S + n), *(["RT"] if n % 2 else [])] for n in range(30)]
    file.write_text("".join(between.join(line) + "\n" for line in lines))
    settings = EdgelistSettings(kind="edgelist", path=file, separator=separator)
    _, rows = read(tmp_path, file.read_bytes(), Edgelist(settings, tmp_path).wanted(file))
    assert [row["kind"] for row in rows] == ["edge", "RT"] * 15
    assert not any(row["fault"] for row in rows)


def test_a_clock_in_a_field_of_its_own_is_no_kind(tmp_path):
    lines = [f"1 2 2024-03-01 10:00:{n:02d}\n" for n in range(30)]
    file = tmp_path / "edges"
    settings = EdgelistSettings(kind="edgelist", path=file, time_unit="iso")
    found, _ = read(tmp_path, "".join(lines).encode(), Edgelist(settings, tmp_path).wanted(file))
    assert "clock times such as 10:00:00 in field 'kind'" in found.account.trouble


@pytest.mark.parametrize("nothing", ["0001-01-01T00:00:00", "9999-12-31 23:59:59", "1970-01-01"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_what_stands_for_no_time_is_put_aside_however_many_they_are(tmp_path, nothing, zone):
    times = [nothing] * 90 + [f"2024-03-01 10:00:{n:02d}" for n in range(30)]
    file = tmp_path / "log"
    file.write_text("user,author,time\n" + "".join(f"u,a,{time}\n" for time in times))
    wanted = Wanted(wanted_of().fields, "time", "iso", zone)
    log = read_log({file: wanted}, tmp_path / "intake")
    assert log.body == (date(2024, 3, 1), date(2024, 3, 1))
    assert set(log.all_strays(log.files[0]).values()) == {"time_outlier"}
    assert log.rows_of(date(2024, 3, 1)) == 120


def test_a_list_of_edges_without_lines_has_no_rows(tmp_path):
    wanted = wanted_of("iso", separator="whitespace", quote="", names=("user", "author", "time"))
    found, rows = read(tmp_path, b"", wanted)
    assert (found.account.trouble, rows) == ("", [])


# --- files


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", data)
    return stream.getvalue()


def tarred(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


JSON = json.dumps({"user": "u1", "author": "a", "time": START_S}).encode()
OTHERS = {
    "zip archive": zipped(ROWS),
    "tar archive": tarred(ROWS),
    "an old Excel file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(range(256)) * 8,
    "a 7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(range(256)),
    "compressed with LZ4": b"\x04\x22\x4d\x18" + bytes(range(256)),
    "an SQLite database": b"SQLite format 3\0" + bytes(range(256)) * 8,
    "holds JSON; expected": JSON + b"\n" + JSON + b"\n",
    "holds JSON": b"[\n " + JSON + b"\n]\n",
    "encrypted Parquet": b"PARE" + bytes(range(256)),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("named", OTHERS)
def test_a_file_of_another_format_is_named(tmp_path, named, pack):
    found, rows = read(tmp_path, pack(OTHERS[named]))
    assert f"{tmp_path / 'file'} " in found.account.trouble
    assert named in found.account.trouble
    assert rows == []


@pytest.mark.parametrize("name", [b"ORCID", b"PARENT", b"7zip", b"PK"])
def test_a_column_may_be_called_like_a_format(tmp_path, name):
    found, rows = read(
        tmp_path, name + b"," + HEADER + b"".join(b"1,%b\n" % r for r in ROWS.split())
    )
    assert (found.account.trouble, len(rows)) == ("", 30)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("behind", [ROWS, b"x"])
def test_text_behind_a_compressed_one_is_not_passed_over(tmp_path, pack, behind):
    """Python's own readers of bz2 and xz end there, as if the file had no more."""
    found, _ = read(tmp_path, pack(HEADER + ROWS) + behind)
    assert "cannot be read to its end" in found.account.trouble


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("zeros", [0, 4, 512, 1 << 18])
def test_zeros_behind_a_compressed_text_are_padding(tmp_path, pack, zeros):
    """As tapes and block devices have them; members follow each other, empty ones too."""
    packed = pack(HEADER) + pack(b"") + pack(ROWS) + b"\0" * zeros
    found, rows = read(tmp_path, packed)
    assert (found.account.trouble, len(rows)) == ("", 30)


def test_a_link_to_a_folder_above_the_log_is_not_followed(tmp_path):
    """It may have more than the log, such as the home with all rows."""
    log = tmp_path / "log"
    log.mkdir()
    (log / "a.csv").write_bytes(HEADER)
    (tmp_path / "settings").write_text("")
    os.symlink("..", log / "above")
    os.symlink(".", log / "itself")
    assert find_files(log) == [log / "a.csv"]


# --- numbers in Parquet


@pytest.mark.parametrize(
    ("kind", "digits"), [(pa.float16(), 11), (pa.float32(), 24), (pa.float64(), 53)]
)
@pytest.mark.parametrize("encoded", [False, True])
def test_two_integers_that_became_one_float_are_no_id(tmp_path, kind, digits, encoded):
    """Every integer that has a float of its own keeps its id; the others are put aside."""
    first = 1 << digits
    integers = [5, -7, first - 1, first, first + 1, first + 2]
    floats = np.array(integers, dtype=kind.to_pandas_dtype())
    column = pa.array(floats, kind)
    if encoded and kind != pa.float16():  # of which Arrow makes no dictionary
        column = column.dictionary_encode()
    _, rows = read(tmp_path, parquet_of(user=column))
    assert [row["consumer_id"] for row in rows] == ["5", "-7", str(first - 1), None, None, None]
    assert {row["fault"] for row in rows[3:]} == {"consumer_id_not_exact"}


def test_an_infinite_float_is_no_id(tmp_path):
    _, rows = read(tmp_path, parquet_of(user=pa.array([1.0, float("inf"), float("nan"), None])))
    assert [row["consumer_id"] for row in rows] == ["1", None, None, None]
    assert [row["fault"] for row in rows] == [None, "consumer_id_unreadable", None, None]


def test_seconds_in_floats_of_32_bits_are_no_times(tmp_path):
    """They are whole multiples of 128 s, and may be those of another day."""
    times = pa.array([float(START_S)] * 3, pa.float32())
    found, _ = read(tmp_path, parquet_of(time=times))
    assert "time_unreadable" in found.account.trouble


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
@pytest.mark.parametrize("encoded", [False, True])
def test_texts_of_times_are_read_however_they_are_stored(tmp_path, kind, encoded):
    times = pa.array(["2024-03-01 10:00:00", "never"]).cast(kind)
    times = times.dictionary_encode() if encoded else times
    _, rows = read(tmp_path, parquet_of(time=times), wanted_of("iso"))
    assert [row["fault"] for row in rows] == [None, "time_unreadable"]


def test_unsigned_times_beyond_any_year_cost_their_rows_only(tmp_path):
    times = pa.array([START_S * 10**9, (1 << 64) - 1, START_S * 10**9 + 1], pa.uint64())
    _, rows = read(tmp_path, parquet_of(time=times), wanted_of("ns"))
    assert [row["fault"] for row in rows] == [None, "time_unreadable", None]


def test_a_hexadecimal_number_is_no_time(tmp_path):
    """Arrow reads it as one where all others are whole numbers, and else as none."""
    text = HEADER + ROWS + b"u1,a,0x65e1a720\n"
    _, rows = read(tmp_path, text)
    assert [row["fault"] for row in rows] == [None] * 30 + ["time_unreadable"]
