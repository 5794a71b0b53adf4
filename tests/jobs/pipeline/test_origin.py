"""What a log that has grown, moved, or lost files says against a day that was landed from it."""

from __future__ import annotations

import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs.errors import BadInput
from jobs.lake.store import Partition
from jobs.pipeline import plan
from jobs.pipeline.origin import contradiction, origin, require_unchanged
from jobs.settings import Settings
from jobs.sources import reopen_sources
from jobs.sources.edgelist import EdgelistSettings

FIRST, SECOND, THIRD = (date(2024, 3, 1) + timedelta(days=n) for n in range(3))


def edge(day: date, producer: str = "p1", second: int = 60) -> str:
    return f"c1 {producer} {(day - date(1970, 1, 1)).days * 86_400 + second}\n"


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A log of two days, a file each; both days are landed."""
    log = tmp_path / "log"
    log.mkdir()
    for day in (FIRST, SECOND):
        (log / f"{day}.txt").write_text(edge(day))
    settings = settings_of(tmp_path, "log")
    for day in (FIRST, SECOND):
        land(settings, day)
    return settings


def settings_of(folder: Path, log: str) -> Settings:
    source = EdgelistSettings(kind="edgelist", path=folder / log)
    return Settings(home=folder / "home", source=source)


def land(settings: Settings, day: date) -> None:
    """As the step `land` commits a day, without its rows."""
    reopen_sources()
    read = origin(settings, day)
    with settings.lake.writing(
        "land", day, recipe=plan.recipe(settings, "land"), log=read.log, sources=read.files
    ) as staging:
        staging.facts["files"] = sorted(read.files)


def landed(settings: Settings, day: date = FIRST) -> Partition:
    reopen_sources()
    return settings.lake.get("land", day)


def unchanged(log: Path) -> None:
    pass


def touched(log: Path) -> None:
    os.utime(log / f"{FIRST}.txt", (0, 0))


def written_again(log: Path) -> None:
    (log / f"{FIRST}.txt").write_text(edge(FIRST))


def renamed(log: Path) -> None:
    (log / f"{FIRST}.txt").rename(log / "archive.txt")


def another_day_added(log: Path) -> None:
    (log / f"{THIRD}.txt").write_text(edge(THIRD))


def rotated_away(log: Path) -> None:
    (log / f"{FIRST}.txt").unlink()


def corrected(log: Path) -> None:
    (log / f"{FIRST}.txt").write_text(edge(FIRST, "p2"))


def grown(log: Path) -> None:
    with (log / f"{FIRST}.txt").open("a") as file:
        file.write(edge(FIRST, second=90))


def late_rows(log: Path) -> None:
    (log / f"{THIRD}.txt").write_text(edge(THIRD) + edge(FIRST, second=90))


@pytest.mark.parametrize(
    "change", [unchanged, touched, written_again, renamed, another_day_added, rotated_away]
)
def test_a_landed_day_stays(settings, change):
    """Also when its file is moved away: landing it again would lose it."""
    partition = landed(settings)
    change(settings.source.path)
    reopen_sources()
    assert contradiction(settings, partition) == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (corrected, f"{FIRST}.txt has changed"),
        (grown, f"{FIRST}.txt has changed"),
        (late_rows, f"{THIRD}.txt has rows of the day and was not read"),
    ],
)
def test_a_landed_day_is_contradicted(settings, change, why):
    partition = landed(settings)
    change(settings.source.path)
    reopen_sources()
    assert contradiction(settings, partition) == why


def test_late_rows_for_a_day_whose_file_was_moved_away_do_not_replace_it(settings):
    partition = landed(settings)
    rotated_away(settings.source.path)
    late_rows(settings.source.path)
    reopen_sources()
    assert contradiction(settings, partition) == ""


def test_a_log_that_moved_is_the_same_log(settings, tmp_path):
    shutil.move(tmp_path / "log", tmp_path / "elsewhere")
    moved = settings_of(tmp_path, "elsewhere")
    assert contradiction(moved, landed(moved)) == ""


@pytest.mark.parametrize("days", [(FIRST, SECOND), (SECOND,)], ids=["same days", "a later start"])
def test_another_log_under_the_same_home_is_named(settings, tmp_path, days):
    """Also on the days that it does not have."""
    other = tmp_path / "log2"
    other.mkdir()
    for day in days:
        (other / f"{day}.txt").write_text(edge(day, "another"))
    changed = settings_of(tmp_path, "log2")
    assert contradiction(changed, landed(changed)) == "it was read from another log, ../log"
    assert plan.first_day(changed) == days[0]


def test_landed_days_stay_known_when_their_files_are_moved_away(settings):
    """The first day, and with it windows and anchor, is where it was."""
    rotated_away(settings.source.path)
    another_day_added(settings.source.path)
    reopen_sources()
    assert plan.first_day(settings) == FIRST
    assert plan.window(settings, THIRD, 14) == [FIRST, SECOND, THIRD]
    assert plan.anchor_day(settings) == FIRST


def test_a_day_without_rows_is_landed_again_when_its_rows_arrive(settings, tmp_path):
    gap = SECOND
    (settings.source.path / f"{gap}.txt").rename(tmp_path / "late.txt")
    another_day_added(settings.source.path)
    land(settings, gap)
    partition = landed(settings, gap)
    assert partition.sources == {}
    (tmp_path / "late.txt").rename(settings.source.path / f"{gap}.txt")
    reopen_sources()
    assert contradiction(settings, partition) == f"{gap}.txt has rows of the day and was not read"


def test_a_file_that_changes_while_it_is_landed_is_named(settings):
    before = origin(settings, FIRST)
    grown(settings.source.path)
    with pytest.raises(BadInput, match=rf"changed while {FIRST} was landed: {FIRST}.txt"):
        require_unchanged(settings, FIRST, before)


def test_a_file_is_digested_once_while_it_is_unchanged(settings, monkeypatch):
    """Also by another process: the lake remembers."""

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("jobs.pipeline.origin.file_digest", refuse)
    assert contradiction(settings, landed(settings)) == ""
    grown(settings.source.path)
    reopen_sources()
    with pytest.raises(AssertionError, match=f"{FIRST}.txt was read again"):
        contradiction(settings, landed(settings))
