"""A log as a whole: which days it has, what is read again, and what a broken file stops."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.intake import days_writer
from jobs.intake.days_writer import MOST_OPEN
from jobs.intake.index import Log, body_of, read_log, take_here, unused
from jobs.intake.reading import Field, Wanted

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(4)]
WANTED = Wanted((Field("consumer_id", "user"), Field("value", "n", "number")), "time", "iso", "UTC")


def text_of(*days: date, rows: int = 10, times: str = "12:00:00") -> bytes:
    lines = ["user,n,time"]
    for day in days:
        lines += [f"u{n},1,{day} {times}" for n in range(rows)]
    return "\n".join([*lines, ""]).encode()


def write(file: Path, *days: date, rows: int = 10) -> Path:
    file.write_bytes(text_of(*days, rows=rows))
    return file


def log_of(folder: Path, taker=take_here) -> Log:
    files = dict.fromkeys(sorted((folder / "log").iterdir()), WANTED)
    return read_log(files, folder / "intake", taker)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path


def landed(log: Log, day: date) -> list[dict]:
    parts = [part for file in log.of_day(day) for part in file.rows_of(day)]
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


PACKED = {
    "a.csv": lambda data: data,
    "a.csv.gz": gzip.compress,
    "two-members.gz": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "a.bz2": bz2.compress,
    "two-streams.bz2": lambda data: bz2.compress(data[:100]) + bz2.compress(data[100:]),
    "a.xz": lzma.compress,
    "a.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "two-frames.zst": lambda data: (
        pa.compress(data[:100], "zstd", asbytes=True)
        + pa.compress(data[100:], "zstd", asbytes=True)
    ),
    "misnamed.parquet": gzip.compress,
    "no ending": lambda data: data,
}


@pytest.mark.parametrize("name", PACKED)
def test_a_file_is_read_whatever_it_is_packed_with_and_called(folder, name):
    (folder / "log" / name).write_bytes(PACKED[name](text_of(*DAYS)))
    log = log_of(folder)
    assert log.body == (DAYS[0], DAYS[-1])
    assert [len(landed(log, day)) for day in DAYS] == [10] * 4


def test_a_file_is_read_once_and_again_when_it_has_changed(folder):
    file = write(folder / "log" / "a.csv", *DAYS[:2])
    write(folder / "log" / "b.csv", DAYS[2])
    taken: list[str] = []

    def watching(files, root):
        taken.extend(file.name for file, _ in files)
        return take_here(files, root)

    log_of(folder, watching)
    log_of(folder, watching)
    assert taken == ["a.csv", "b.csv"]
    write(file, *DAYS)
    assert log_of(folder, watching).body == (DAYS[0], DAYS[3])
    assert taken == ["a.csv", "b.csv", "a.csv"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: (file.folder / "account.json").unlink(),
        lambda file: shutil.rmtree(file.folder),
        lambda file: (file.folder.parent / "index.json").write_text("{"),
    ],
)
def test_what_was_lost_is_read_again(folder, damage):
    write(folder / "log" / "a.csv", *DAYS)
    damage(log_of(folder).files[0])
    assert len(landed(log_of(folder), DAYS[1])) == 10


def test_rows_of_files_that_have_left_the_log_are_known_as_unused(folder):
    write(folder / "log" / "a.csv", *DAYS)
    kept = write(folder / "log" / "b.csv", DAYS[0])
    a, b = log_of(folder).files
    (folder / "log" / "a.csv").unlink()
    assert [file.path for file in log_of(folder).files] == [kept]
    assert unused(folder / "intake", {b.folder}) == [a.folder]


def test_other_settings_read_a_file_anew(folder):
    write(folder / "log" / "a.csv", *DAYS)
    log_of(folder)
    other = Wanted((Field("producer_id", "user"),), "time", "iso", "UTC")
    log = read_log({folder / "log" / "a.csv": other}, folder / "intake")
    assert set(landed(log, DAYS[0])[0]) >= {"producer_id"}


# --- days


@pytest.mark.parametrize(
    ("rows", "body"),
    [
        ({0: 1, 19783: 90, 19784: 90}, (19783, 19784)),  # a clock that was reset
        ({19783: 90, 19784: 90, 47000: 2}, (19783, 19784)),  # and one that is ahead
        ({19783: 90, 19900: 80}, (19783, 19900)),  # a log with a long pause
        ({19783: 5000, 19784: 2}, (19783, 19784)),  # a day that has only begun
        ({19783: 1}, (19783, 19783)),
        ({0: 500, 1: 500}, (0, 1)),  # simulated
        ({}, None),
        ({19783: 90, 19784: 90, 23000: 15}, (19783, 19784)),  # a file of nothing else
        ({19783: 90, 19784: 90, 23000: 40}, (19783, 23000)),  # too many to be an accident
        ({-1: 300, 19783: 90, 19784: 90}, (19783, 19784)),  # nothing, written as a time
        ({19783: 90, 2932896: 300, 19784: 90}, (19783, 19784)),  # 9999-12-31: never
        ({19783: 1, 20183: 1}, (19783, 20183)),
        ({19783: 3, 19784: 3, 0: 1, 1: 1}, (19783, 19784)),
        ({day: 2 + day % 2 for day in range(15000, 20000, 40)}, (15000, 19960)),  # a sparse log
        (dict.fromkeys(range(-3653, 20000, 365), 5), (-3653, 19707)),  # papers, by their year
    ],
)
def test_a_few_rows_far_away_do_not_count_as_days_of_the_log(rows, body):
    epoch = date(1970, 1, 1)
    days = {epoch + timedelta(days=day): count for day, count in rows.items()}
    expected = body and tuple(epoch + timedelta(days=day) for day in body)
    assert body_of([days]) == expected
    one_file_a_day = [{day: count} for day, count in days.items()]
    assert body_of(one_file_a_day) == expected


def test_rows_far_away_are_judged_with_the_first_day_of_their_file(folder):
    write(folder / "log" / "a.csv", DAYS[0], rows=100)
    stray = text_of(date(1970, 1, 1), rows=1).partition(b"\n")[2]
    (folder / "log" / "b.csv").write_bytes(text_of(*DAYS[1:], rows=100) + stray)
    log = log_of(folder)
    a, b = log.files
    assert [log.strays(a, day) for day in DAYS] == [{}] * 4
    outlier = {date(1970, 1, 1): "time_outlier"}
    assert [log.strays(b, day) for day in DAYS] == [{}, outlier, {}, {}]
    assert [log.rows_of(day) for day in DAYS] == [100, 101, 100, 100]


@pytest.mark.parametrize(
    ("late_days", "rows"), [(None, [12, 10, 10, 0]), (1, [10, 10, 12, 0]), (2, [12, 10, 10, 0])]
)
def test_late_rows_land_on_their_day_or_are_put_aside_by_a_setting(folder, late_days, rows):
    for number, day in enumerate(DAYS[:3]):
        write(folder / "log" / f"{number}.csv", day)
    late = text_of(DAYS[0], rows=2).partition(b"\n")[2]
    with (folder / "log" / "2.csv").open("ab") as file:
        file.write(late)
    files = dict.fromkeys(sorted((folder / "log").iterdir()), WANTED)
    log = read_log(files, folder / "intake", late_days=late_days)
    assert [log.rows_of(day) for day in DAYS] == rows
    assert sum(rows) == 32


NO_ROWS = [b"", b"user,n,time\n", b"user,n,time", gzip.compress(b"", mtime=0)]


@pytest.mark.parametrize("data", NO_ROWS)
def test_a_file_without_rows_is_no_trouble_and_has_no_days(folder, data):
    write(folder / "log" / "a.csv", *DAYS)
    (folder / "log" / "b.csv").write_bytes(data)
    log = log_of(folder)
    assert (log.body, log.troubles) == ((DAYS[0], DAYS[-1]), [])


def test_lines_that_are_no_rows_go_with_the_day_of_the_line_before_them(folder):
    lines = text_of(*DAYS[:2], rows=2).decode().splitlines()
    lines[1:1] = ["first"]
    lines[4:4] = ["between"]
    lines.append("last")
    (folder / "log" / "a.csv").write_text("\n".join(lines))
    log = log_of(folder)
    raw = {day: [row["raw"] for row in landed(log, day) if row["fault"]] for day in DAYS[:2]}
    assert raw == {DAYS[0]: ["first", "between"], DAYS[1]: ["last"]}
    assert log.files[0].account.rows == 7


# --- files that cannot be read


def stopped(log: Log) -> list[date]:
    return [day for day in DAYS if log.stopped(day)]


def test_a_truncated_file_stops_its_own_days_only(folder):
    for number, day in enumerate(DAYS):
        write(folder / "log" / f"{number}.csv", day, rows=2000)
    os.rename(folder / "log" / "1.csv", folder / "whole")
    packed = gzip.compress((folder / "whole").read_bytes(), 0)
    (folder / "log" / "1.csv.gz").write_bytes(packed[: len(packed) // 2])
    log = log_of(folder)
    assert stopped(log) == [DAYS[1]]
    assert "1.csv.gz cannot be read to its end" in log.troubles[0].account.trouble


def test_a_file_with_an_older_schema_stops_its_own_days_only(folder):
    write(folder / "log" / "a.csv", *DAYS[1:])
    (folder / "log" / "old.csv").write_text(f"who,time\nu,{DAYS[0]} 12:00:00\n")
    log = log_of(folder)
    assert stopped(log) == [DAYS[0]]
    assert "old.csv has no column 'user'" in log.troubles[0].account.trouble


@pytest.mark.parametrize("name", ["clicks-2024-03-02.parquet", "20240302.csv.gz"])
def test_a_broken_file_stops_the_day_in_its_name(folder, name):
    write(folder / "log" / "a.csv", DAYS[0], *DAYS[2:])
    (folder / "log" / name).write_bytes(b"\x1f\x8b broken")
    assert stopped(log_of(folder)) == [DAYS[1]]


def test_a_file_of_which_nothing_is_known_stops_every_day(folder):
    write(folder / "log" / "a.csv", *DAYS)
    (folder / "log" / "x").write_bytes(b"PAR1 broken")
    assert stopped(log_of(folder)) == DAYS


def test_a_file_that_is_mostly_unreadable_is_described_by_an_example(folder):
    (folder / "log" / "a.csv").write_text("user,n,time\nu,1,yesterday\nu,1,today\n")
    trouble = log_of(folder).troubles[0].account.trouble
    assert (
        "2 of 2 rows cannot be read: time_unreadable, first in line 2: 'u,1,yesterday'" in trouble
    )


def test_a_file_that_may_not_be_read_is_named(folder):
    (folder / "log" / "a.csv").symlink_to(folder / "nowhere")
    assert "a.csv cannot be read" in log_of(folder).troubles[0].account.trouble


# --- the account


def test_the_account_names_what_became_of_every_line(folder):
    text = text_of(DAYS[0], rows=3).decode() + "\n\nu,1\nu,1,never\n"
    (folder / "log" / "a.csv").write_text(text)
    (file,) = log_of(folder).files
    account = json.loads((file.folder / "account.json").read_text())
    assert account == {
        "digest": file.account.digest,
        "rows": 5,
        "lines": 8,
        "skipped": 3,
        "days": {str(DAYS[0]): 5},
        "bytes": {f"{DAYS[0]}.0.parquet": file.rows_of(DAYS[0])[0].stat().st_size},
        "faults": {"fields_missing": 1, "time_unreadable": 1},
        "examples": {"fields_missing": [7, "u,1"], "time_unreadable": [8, "u,1,never"]},
        "trouble": "",
        "complete": True,
        "rises": False,
        "falls": False,
        "last": (DAYS[0] - date(1970, 1, 1)).days,
    }


# --- what else may happen to a log


def test_a_file_that_grows_while_it_is_read_is_read_again(folder):
    file = write(folder / "log" / "a.csv", DAYS[0])

    def slow(files, root):
        accounts = take_here(files, root)
        file.write_bytes(file.read_bytes() + text_of(DAYS[1]).partition(b"\n")[2])
        return accounts

    log = log_of(folder, slow)
    assert not log.files[0].is_as_read
    assert len(landed(log_of(folder), DAYS[1])) == 10


def test_a_moved_or_renamed_file_is_not_read_again(folder):
    file = write(folder / "log" / "a.csv", *DAYS)
    log_of(folder)
    file.rename(folder / "log" / "b.csv")
    taken = []

    def watching(files, root):
        taken.extend(files)
        return take_here(files, root)

    assert len(landed(log_of(folder, watching), DAYS[2])) == 10
    assert taken == []


def test_two_ways_to_read_a_log_share_a_home(folder):
    file = write(folder / "log" / "a.csv", *DAYS)
    other = Wanted((Field("producer_id", "user"),), "time", "iso", "UTC")
    taken = []

    def watching(files, root):
        taken.extend(files)
        return take_here(files, root)

    for _ in range(2):
        log_of(folder, watching)
        read_log({file: other}, folder / "intake", watching)
    assert len(taken) == 2


def test_a_file_with_more_days_than_files_may_be_open_keeps_every_row_in_its_order(
    folder, monkeypatch
):
    days = [date(2000, 1, 1) + timedelta(days=n) for n in range(2 * MOST_OPEN)]
    (folder / "log" / "a.csv").write_bytes(text_of(*days, *days, *days, rows=2))
    whole = {day: landed(log_of(folder), day) for day in days}
    shutil.rmtree(folder / "intake")
    monkeypatch.setattr("jobs.intake.days_writer.BUFFERED", 1)
    monkeypatch.setattr("jobs.intake.streams.CHUNK", 5_000)
    monkeypatch.setattr("jobs.intake.streams.PART", 5_000)
    log = log_of(folder)
    assert max(len(log.files[0].rows_of(day)) for day in days) == 3
    assert {day: landed(log, day) for day in days} == whole


def test_a_full_disk_is_no_fault_of_the_file(folder, monkeypatch):
    write(folder / "log" / "a.csv", *DAYS)

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(days_writer.DaysWriter, "_flush", full)
        with pytest.raises(OSError, match="No space left"):
            log_of(folder)
    assert log_of(folder).troubles == []


@pytest.mark.parametrize("name", ["dump-2024-03-02.csv", "dump.csv"])
def test_a_truncated_file_stops_every_day_that_was_read_of_it_and_that_may_follow(folder, name):
    write(folder / "log" / "a.csv", *DAYS)
    data = gzip.compress(text_of(*DAYS[:2], rows=3000), 0)
    (folder / "log" / name).write_bytes(data[:-1000])
    assert stopped(log_of(folder)) == (DAYS[:2] if "-" in name else DAYS)


def test_a_truncated_file_that_runs_backwards_stops_the_days_before(folder):
    write(folder / "log" / "a.csv", *DAYS)
    data = gzip.compress(text_of(DAYS[2], DAYS[1], rows=3000), 0)
    (folder / "log" / "b.csv").write_bytes(data[:-1000])
    assert stopped(log_of(folder)) == DAYS[:3]


def test_a_file_that_has_only_begun_stops_the_newest_day(folder):
    write(folder / "log" / "a.csv", *DAYS)
    (folder / "log" / "b.csv").write_text("user,n,time\nu,1")
    assert stopped(log_of(folder)) == DAYS[-1:]


def test_rows_of_a_reset_clock_stay_few_in_an_old_log():
    log = {date(2020, 1, 1) + timedelta(days=n): 1000 for n in range(365)}
    assert body_of([log | {date(1970, 1, 1): 60}]) == (date(2020, 1, 1), date(2020, 12, 30))


def test_many_rows_without_any_day_end_the_reading_of_a_file(folder, monkeypatch):
    monkeypatch.setattr("jobs.intake.taken.MOST_WITHOUT_DAY", 5)
    monkeypatch.setattr("jobs.intake.streams.CHUNK", 100)
    monkeypatch.setattr("jobs.intake.streams.PART", 100)
    (folder / "log" / "a.csv").write_text("user,n,time\n" + "u,1,03/01/2024\n" * 1000)
    trouble = log_of(folder).troubles[0].account.trouble
    assert "rows has a time that can be read, such as line 2: 'u,1,03/01/2024'" in trouble


def test_columns_of_lists_are_refused_by_name_and_type(folder):
    table = pa.table({"user": [["a"]], "n": [1], "time": ["2024-03-01"]})
    pq.write_table(table, folder / "log" / "a.parquet")
    trouble = log_of(folder).troubles[0].account.trouble
    assert "column 'user' is of type list<" in trouble
    assert "expected one value in each row" in trouble
