"""The commit protocol: all or nothing, and the same content is the same partition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import pytest

from jobs.errors import NotCommitted
from jobs.lake.store import Lake

DAY = date(2022, 4, 25)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path)


def write(lake: Lake, text: str, **facts) -> None:
    with lake.writing("matrix", DAY, recipe="s") as staging:
        (staging.path / "table").mkdir()
        (staging.path / "table" / "part-00000.txt").write_text(text)
        staging.facts |= facts


def texts(root: Path) -> list[str]:
    """The content of every table's file below a folder, committed or not."""
    return [part.read_text() for part in root.rglob("part-*")]


def test_a_committed_partition_is_read_back(lake):
    write(lake, "rows", count=3)
    partition = lake.get("matrix", DAY)
    assert (partition.path / "table" / "part-00000.txt").read_text() == "rows"
    assert partition.facts == {"count": 3}
    assert partition.has("table")


def test_writing_the_same_content_twice_leaves_the_files_untouched(lake):
    def files():
        return {path: (path.stat().st_ino, path.read_bytes()) for path in lake.root.rglob("part-*")}

    write(lake, "rows")
    before = files()
    write(lake, "rows")
    assert files() == before


def test_new_content_replaces_the_partition(lake):
    write(lake, "old")
    write(lake, "new")
    assert texts(lake.get("matrix", DAY).path) == ["new"]


def test_a_step_that_fails_keeps_the_old_partition_and_cleans_up(lake):
    write(lake, "old")
    with pytest.raises(ZeroDivisionError), lake.writing("matrix", DAY, recipe="s") as staging:
        (staging.path / "half").write_text("half")
        raise ZeroDivisionError
    assert texts(lake.root) == ["old"]
    assert list((lake.root / "_staging").iterdir()) == []


WRITE_AND_DIE = """
import os, signal, sys
from datetime import date, datetime
from pathlib import Path
import embeddings.storage.folder as folder
import jobs.lake.store as store

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

root, moment = sys.argv[1:]
if moment == "before the move":
    folder.place = die
else:
    folder.write_file = die
with store.Lake(Path(root)).writing("matrix", date(2022, 4, 25), recipe="s") as staging:
    (staging.path / "table").mkdir()
    (staging.path / "table" / "part-00000.txt").write_text("rows")
"""


@pytest.mark.parametrize("moment", ["before the move", "before the manifest"])
def test_a_kill_during_the_commit_shows_nothing_and_the_next_run_completes(lake, tmp_path, moment):
    """A real kill -9, at the two moments between staging and commit."""
    command = [sys.executable, "-c", WRITE_AND_DIE, str(lake.root), moment]
    assert subprocess.run(command, env=os.environ).returncode == -signal.SIGKILL
    assert lake.find("matrix", DAY) is None
    assert lake.days("matrix") == []
    undisturbed = Lake(tmp_path / "undisturbed")
    write(lake, "rows")
    write(undisturbed, "rows")
    assert lake.get("matrix", DAY).digest == undisturbed.get("matrix", DAY).digest


def test_a_missing_partition_is_named_with_its_remedy(lake):
    write(lake, "rows")
    message = (
        r"'matrix' has no committed partition for 2022-04-26.*2022-04-25.*"
        r"evergreen step matrix --day 2022-04-26"
    )
    with pytest.raises(NotCommitted, match=message):
        lake.get("matrix", date(2022, 4, 26))


def test_spark_writes_the_same_rows_as_the_same_bytes_in_any_order(lake, spark):
    rows = [(str(n % 7), n) for n in range(100)]
    digests = []
    for order in (rows, rows[::-1]):
        table = spark.createDataFrame(order, "id string, n int").repartition(5)
        with lake.writing("land", DAY, recipe="s") as staging:
            staging.write(table, "t", ["id", "n"], partitions=2)
        digests.append(lake.get("land", DAY).digest)
    assert digests[0] == digests[1]
    assert sorted(map(tuple, lake.get("land", DAY).read(spark, "t").collect())) == sorted(rows)


def test_a_moment_is_not_a_day(lake):
    """It is an instance of date, and would have a partition of its own."""
    with pytest.raises(TypeError, match="is not a day"):
        lake.find("matrix", datetime(2022, 4, 25))
