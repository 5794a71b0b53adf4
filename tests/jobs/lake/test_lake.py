"""The commit protocol: whole or not at all, and the same content is the same partition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date

import pytest

from jobs.errors import NotCommitted
from jobs.lake.store import Lake

DAY = date(2022, 4, 25)


def write(lake: Lake, text: str, **facts) -> None:
    with lake.writing("matrix", DAY, settings="s") as staging:
        (staging.path / "table").mkdir()
        (staging.path / "table" / "part-00000.txt").write_text(text)
        staging.facts |= facts


def test_what_was_written_is_read_back(tmp_path):
    write(lake := Lake(tmp_path), "rows", count=3)
    partition = lake.get("matrix", DAY)
    assert (partition.path / "table" / "part-00000.txt").read_text() == "rows"
    assert partition.facts == {"count": 3}
    assert partition.has("table")


def test_the_same_content_twice_leaves_every_byte_as_it_was(tmp_path):
    write(lake := Lake(tmp_path), "rows")
    before = {p: (p.stat().st_ino, p.read_bytes()) for p in tmp_path.rglob("part-*")}
    write(lake, "rows")
    assert {p: (p.stat().st_ino, p.read_bytes()) for p in tmp_path.rglob("part-*")} == before


def test_other_content_replaces_the_partition_and_leaves_nothing_of_the_old(tmp_path):
    write(lake := Lake(tmp_path), "old")
    write(lake, "new")
    assert [p.read_text() for p in tmp_path.rglob("part-*")] == ["new"]


def test_a_step_that_fails_leaves_the_old_partition_and_no_rubbish(tmp_path):
    write(lake := Lake(tmp_path), "old")
    with pytest.raises(ZeroDivisionError), lake.writing("matrix", DAY, settings="s") as staging:
        (staging.path / "half").write_text("half")
        raise ZeroDivisionError
    assert [p.read_text() for p in tmp_path.rglob("part-*")] == ["old"]
    assert list((tmp_path / "_staging").iterdir()) == []


@pytest.mark.parametrize(
    "moment", ["replace", "replace_text"], ids=["before the move", "before the manifest"]
)
def test_killed_at_the_commit_nothing_is_there_and_the_next_try_is_whole(tmp_path, moment):
    """A real kill -9, at the two moments between staging and commit."""
    script = f"""
import os, signal
from datetime import date
from pathlib import Path
import jobs.lake.store as m
def die(*a): os.kill(os.getpid(), signal.SIGKILL)
if {moment!r} == "replace": m.os.replace = die
else: m.replace_text = die
with m.Lake(Path({str(tmp_path)!r})).writing("matrix", date(2022, 4, 25), settings="s") as staging:
    (staging.path / "table").mkdir()
    (staging.path / "table" / "part-00000.txt").write_text("rows")
"""
    assert (
        subprocess.run([sys.executable, "-c", script], env=os.environ).returncode == -signal.SIGKILL
    )
    lake = Lake(tmp_path)
    assert lake.find("matrix", DAY) is None
    assert lake.days("matrix") == []
    write(lake, "rows")
    write(undisturbed := Lake(tmp_path / "other"), "rows")
    assert lake.get("matrix", DAY).digest == undisturbed.get("matrix", DAY).digest


def test_a_missing_partition_is_named_with_its_remedy(tmp_path):
    write(lake := Lake(tmp_path), "rows")
    with pytest.raises(
        NotCommitted,
        match=r"'matrix' has no committed partition for 2022-04-26.*2022-04-25.*evergreen step matrix --day 2022-04-26",
    ):
        lake.get("matrix", date(2022, 4, 26))


def test_spark_writes_the_same_rows_as_the_same_bytes_whatever_their_order(tmp_path, spark):
    lake, rows = Lake(tmp_path), [(str(n % 7), n) for n in range(100)]
    digests = []
    for order in (rows, rows[::-1]):
        with lake.writing("land", DAY, settings="s") as staging:
            staging.write(
                spark.createDataFrame(order, "id string, n int").repartition(5),
                "t",
                ["id", "n"],
                partitions=2,
            )
        digests.append(lake.get("land", DAY).digest)
    assert digests[0] == digests[1]
    assert sorted(map(tuple, lake.get("land", DAY).read(spark, "t").collect())) == sorted(rows)
