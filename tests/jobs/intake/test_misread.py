"""What is suggested for a log whose settings name another unit, or another column, as the time."""

from __future__ import annotations

import random

import pytest

from jobs.intake.misread import misread
from jobs.sources.edgelist import Edgelist, EdgelistSettings
from jobs.sources.table import Table, TableSettings

START_S = 1_709_252_930


def edges(file, **options):
    settings = EdgelistSettings(kind="edgelist", path=file, **options)
    return Edgelist(settings, file.parent / "memory").wanted(file)


def table(file, time="time", **options):
    columns = {"consumer_id": "user", "producer_id": "author", "time": time}
    settings = TableSettings(kind="table", path=file, columns=columns, **options)
    return Table(settings, file.parent / "memory").wanted(file)


@pytest.mark.parametrize(
    ("line", "options", "suggested"),
    [
        ("{n} 7 4 {s}", {}, 'source.fields = ["src", "dst", "value", "time"]'),
        ("{n} 7 RT {s}", {}, 'source.fields = ["src", "dst", "kind", "time"]'),
        ("{n} 7 {s} RT", {"fields": ["src", "dst", "kind", "time"]},
         'source.fields = ["src", "dst", "time", "kind"]'),
        ("{s} {n} 7", {}, 'source.fields = ["time", "src", "dst", "kind"]'),
        ("{n} 7 4 x {s}", {}, 'source.fields = ["src", "dst", "value", "kind", "time"]'),
        ("{n},7,4,{s}", {"separator": ","}, 'source.fields = ["src", "dst", "value", "time"]'),
        ("{n} 7 {s}000", {}, "source.time_unit = 'ms'"),
        ("{n} 7 4 {s}000", {}, "and source.time_unit = 'ms'"),
        ("{n} 7 2024-03-01T10:00:00", {}, "source.time_unit = 'iso'"),
    ],
)  # fmt: skip
def test_edges(tmp_path, line, options, suggested):
    file = tmp_path / "out.edges"
    lines = [line.format(n=n, s=START_S + n) for n in range(50)]
    file.write_text("% sym weighted\n" + "\n".join(lines) + "\n")
    found = misread(file, edges(file, **options))
    assert suggested in found
    assert str(file) in found


@pytest.mark.parametrize(
    ("options", "suggested"),
    [
        ({"time_unit": "ms"}, "source.time_unit = 's'"),
        ({"time_unit": "iso"}, "source.time_unit = 's'"),
        ({"time": "n"}, "source.columns.time = 'time'"),
        ({"time": "day"}, "source.time_unit = 'iso'"),
    ],
)
def test_tables(tmp_path, options, suggested):
    file = tmp_path / "log.csv"
    lines = [f"u{n},a,{START_S + n},{n},2024-03-01" for n in range(50)]
    file.write_text("user,author,time,n,day\n" + "\n".join(lines) + "\n")
    assert suggested in misread(file, table(file, **options))


def test_nothing_is_suggested_for_a_log_of_1970(tmp_path):
    """A simulated log may begin there: no other unit and no other field gives better times."""
    draw = random.Random(0)
    file = tmp_path / "simulated"
    lines = [f"{draw.randrange(99)} {draw.randrange(99)} {60 * n}" for n in range(500)]
    file.write_text("\n".join(lines) + "\n")
    assert misread(file, edges(file)) == ""


def test_nothing_is_suggested_for_times_that_are_read(tmp_path):
    file = tmp_path / "fine"
    file.write_text("".join(f"1 2 {START_S + n}\n" for n in range(50)))
    assert misread(file, edges(file)) == ""


def test_nothing_is_suggested_for_a_file_that_cannot_be_read(tmp_path):
    file = tmp_path / "broken"
    file.write_bytes(b"\x1f\x8bno gzip")
    assert misread(file, edges(file)) == ""
