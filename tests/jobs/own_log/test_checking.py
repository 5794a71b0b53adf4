"""`evergreen check`: every row of every file is landed or put aside, and nothing is written."""

from __future__ import annotations

import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.checks.row_rules import Evidence
from jobs.cli import app
from jobs.lake.store import Partition
from jobs.own_log.checking import quiet_days
from jobs.settings import ValidationSettings
from jobs.steps.validate import with_usual

START_S = 1_709_251_200  # 2024-03-01 00:00:00
SETTINGS = """
home = "home"

[source]
kind = "table"
path = "log"

[source.columns]
consumer_id = "user"
producer_id = "author"
time = "time"
"""


def rows(count: int, first_day: int = 0, a_day: int = 50) -> list[str]:
    lines = []
    for n in range(count):
        at = START_S + (first_day + n // a_day) * 86_400 + n % a_day * 60
        lines.append(f"u{n % 9},a{n % 4},{at}")
    return lines


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    (tmp_path / "my.toml").write_text(SETTINGS)
    (tmp_path / "log").mkdir()
    return tmp_path


def write(folder, name: str, lines: list[str]) -> None:
    (folder / "log" / name).write_text("\n".join(["user,author,time", *lines]) + "\n")


def checked(folder, *options: str):
    command = ["--settings", str(folder / "my.toml"), "check", *options]
    return CliRunner().invoke(app, command)


def report_of(folder) -> dict:
    return json.loads(checked(folder, "--json").stdout)


def test_every_reason_has_its_first_line(folder):
    lines = rows(200)
    lines[20] = "u1,a1"
    lines[30] = "u1,a1,yesterday"
    lines[40] = "u2,a2,tomorrow"
    lines[50] = 'u1,"a1'
    lines[60] = "u1,a1,0"
    write(folder, "a.csv", lines)
    file = report_of(folder)["files"][0]
    reasons = {"fields_missing": 1, "time_unreadable": 2, "quote_not_closed": 1, "time_outlier": 1}
    assert file["aside"] == reasons
    assert file["examples"]["time_unreadable"] == {"line": 32, "text": "u1,a1,yesterday"}
    assert file["examples"]["time_outlier"] == {"line": 62, "text": "a time of 1970-01-01"}
    assert file["far"] == {"1970-01-01": 1}
    assert (file["rows"], file["landed"]) == (200, 195)


def test_late_rows_are_put_aside_where_the_settings_say_so(folder):
    """The file of day 4 brings ten rows of day 1."""
    write(folder, "a.csv", rows(150))
    write(folder, "b.csv", rows(50, first_day=3) + rows(10))
    assert report_of(folder)["put_aside"] == 0
    text = SETTINGS.replace('path = "log"', 'path = "log"\nlate_days = 2')
    (folder / "my.toml").write_text(text)
    found = report_of(folder)
    assert found["files"][1]["aside"] == {"late": 10}
    assert (found["landed"], found["closes"]) == (200, True)


def test_the_account_closes_over_all_files(folder):
    write(folder, "a.csv", [*rows(100), "u1"])
    write(folder, "b.csv", rows(70, first_day=2))
    write(folder, "empty.csv", [])
    found = report_of(folder)
    assert (found["rows"], found["landed"], found["put_aside"]) == (171, 170, 1)
    assert found["closes"]
    assert (found["first"], found["last"]) == ("2024-03-01", "2024-03-04")
    shown = checked(folder)
    account = "171 rows read = 170 to land + 1 put aside; 3 lines are headers, comments or blank"
    assert account in shown.output
    assert "4 days from 2024-03-01 to 2024-03-04, with 20 to 51 rows" in shown.output
    assert "run --from 2024-03-01 --to 2024-03-04" in shown.output
    assert shown.exit_code == 0


def test_a_link_that_leads_nowhere_is_named(folder):
    write(folder, "a.csv", rows(100))
    (folder / "log" / "b.csv").symlink_to("nowhere.csv")
    (folder / "log" / "c.csv").symlink_to("c.csv")
    shown = checked(folder)
    assert shown.exit_code == 1
    for name in ("b.csv", "c.csv"):
        assert f"{folder / 'log' / name} cannot be read" in shown.output


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"user,writer,time\nu1,a1,1709251200\n", "no column 'author'"),
        (gzip.compress(b"user,author,time\n" + b"u1,a1,1709251200\n" * 9000)[:-40], "to its end"),
        (b"user,author,time\nu1,a1,x\nu2,a2,y\n", "time_unreadable"),
        (b"user,author,time\nu1,a1,1709251200000\nu2,a2,1709251201000\n", "time_unit = 'ms'"),
    ],
)
def test_a_file_with_trouble_is_named_and_fails_the_check(folder, content, named):
    write(folder, "a.csv", rows(100))
    (folder / "log" / "b.csv").write_bytes(content)
    shown = checked(folder)
    assert shown.exit_code == 1
    assert "b.csv" in shown.output
    assert named in shown.output
    files = {file["file"]: file for file in report_of(folder)["files"]}
    assert files["a.csv"]["landed"] == 100
    assert files["b.csv"]["landed"] == 0


UNSEEN = "\x1b[2J\x07\x9b\u202e\u2066"


def require_visible(output: str) -> None:
    assert "\\x1b[2J" in output
    assert [line for line in output.split("\n") if not line.isprintable()] == []


def test_texts_of_the_log_do_not_command_the_terminal(folder):
    """In a line, in the name of a file, and in the trouble with one."""
    write(folder, f"a{UNSEEN}.csv", [*rows(100), f"u1,a1,{UNSEEN}", f"{UNSEEN}"])
    (folder / "log" / f"b{UNSEEN}.csv").write_text(f"user,{UNSEEN},time\n1,2,3\n")
    require_visible(checked(folder).output)


def test_days_that_validate_will_refuse_are_named(folder):
    """The fifth day has 10 rows, the days before it 50 each."""
    write(folder, "a.csv", rows(200) + rows(10, first_day=4))
    assert report_of(folder)["quiet_days"] == ["2024-03-05"]
    assert "2024-03-05" in checked(folder).output
    (folder / "my.toml").write_text(SETTINGS + "\n[validation]\nmin_rows_share = 0.0\n")
    assert report_of(folder)["quiet_days"] == []


def test_files_with_the_same_content_are_named(folder):
    """Not those without rows, which are the same file as well."""
    for name in ("a.csv", "b.csv", "[c].csv"):
        write(folder, name, rows(100))
    write(folder, "d.csv", rows(100, first_day=2))
    write(folder, "e.csv", [])
    write(folder, "f.csv", [])
    assert report_of(folder)["copies"] == [["[c].csv", "a.csv", "b.csv"]]
    shown = checked(folder)
    assert "their rows count more than once: [c].csv, a.csv, b.csv." in shown.output
    assert shown.exit_code == 0


def landed(day: date, rows: int) -> Partition:
    files = {"engagements/part-00000.parquet": ""}
    return Partition("land", day, Path(), "", {"rows_engagements": rows}, files, "", {})


def refused(rows: dict[date, int], limits: ValidationSettings) -> list[date]:
    """The days that `validate` refuses, by its own rule, if every day is landed in order."""
    found = []
    for day, count in rows.items():
        before = []
        for back in range(limits.median_days, 0, -1):
            earlier = day - timedelta(days=back)
            if earlier >= min(rows):
                before.append(landed(earlier, rows.get(earlier, 0)))
        evidence = Evidence("engagements", {}, {}, [])
        if count < with_usual(evidence, limits, landed(day, count), before).min_rows:
            found.append(day)
    return found


FIRST = date(2024, 3, 1)
COUNTS = st.lists(st.sampled_from([0, 1, 3, 149, 150, 151, 299, 300, 301, 1000]), max_size=30)
SHARES = st.sampled_from([0.0, 0.3, 0.5, 1.0])


@example(counts=[1000] * 10 + [300] * 30, share=0.5, days=7, least=3)  # refused days are usual
@example(counts=[1000] * 3 + [0] * 7 + [10], share=0.5, days=7, least=3)  # a gap in the log
@given(counts=COUNTS, share=SHARES, days=st.integers(1, 9), least=st.integers(1, 4))
def test_quiet_days_are_those_that_validate_refuses(counts, share, days, least):
    limits = ValidationSettings(min_rows_share=share, median_days=days, median_min_days=least)
    rows = {}
    for place, count in enumerate(counts):
        if count:
            rows[FIRST + timedelta(days=place)] = count
    assert quiet_days(rows, rows, limits) == refused(rows, limits)


def test_rows_that_are_put_aside_with_a_day_do_not_fill_it(folder):
    """Day 4 has 20 rows, fewer than half of the usual 50, and 10 of day 1 that come too late."""
    text = SETTINGS.replace('path = "log"', 'path = "log"\nlate_days = 2')
    (folder / "my.toml").write_text(text)
    write(folder, "a.csv", rows(150))
    write(folder, "b.csv", rows(20, first_day=3) + rows(10))
    assert report_of(folder)["quiet_days"] == ["2024-03-04"]


def test_a_pattern_of_a_kind_that_fits_no_file_is_named(folder):
    kinds = 'path = "log"\nkinds = { "b*" = "reply", "like*" = "like" }'
    (folder / "my.toml").write_text(SETTINGS.replace('path = "log"', kinds))
    write(folder, "b.csv", rows(100))
    assert report_of(folder)["unmatched_kinds"] == ["like*"]
    assert "source.kinds has 'like*', which fits no file's name." in checked(folder).output


def test_a_pause_of_the_log_is_named_and_the_days_after_it_are_proposed(folder):
    """As many rows two months later, where a clock may be ahead."""
    write(folder, "a.csv", rows(100))
    write(folder, "b.csv", rows(100, first_day=60))
    shown = checked(folder)
    last = report_of(folder)["pauses"][0][0]
    assert report_of(folder)["pauses"] == [[last, "2024-04-30"]]
    assert f"no rows between {last} and 2024-04-30. Are the times of b.csv right?" in shown.output
    assert "run --from 2024-04-30" in shown.output


@pytest.mark.parametrize("second", [-1, 0, 2**31 - 1 + 86_400 * 40_000])
def test_a_file_of_nothing_but_wrong_times_makes_no_day_of_the_log(folder, second):
    write(folder, "a.csv", rows(100))
    write(folder, "b.csv", [f"u{n},p1,{second}" for n in range(60)])
    report = report_of(folder)
    assert (report["landed"], report["put_aside"], report["last"]) == (100, 60, "2024-03-02")
    assert report["files"][1]["aside"] == {"time_outlier": 60}


def test_nothing_is_landed_and_what_was_read_is_kept(folder):
    write(folder, "a.csv", rows(100))
    checked(folder)
    assert [path.name for path in (folder / "home").iterdir()] == ["intake"]
    kept = sorted(path.stat().st_mtime_ns for path in folder.glob("home/intake/*/account.json"))
    assert len(kept) == 1
    checked(folder)
    again = sorted(path.stat().st_mtime_ns for path in folder.glob("home/intake/*/account.json"))
    assert again == kept
