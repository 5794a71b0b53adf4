"""What the disk and Spark report arrives as an error of ours, which names culprit and remedy."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import BadInput, EvergreenError, StorageError, TaskError
from jobs.pipeline.failures import failures_explained
from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path) -> Settings:
    source = EdgelistSettings(kind="edgelist", path=tmp_path / "log")
    return Settings(home=tmp_path / "home", source=source)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full: .* MB are free, and one day of this home takes about"),
        (errno.EDQUOT, "has no quota left"),
        (errno.EROFS, "is mounted read-only. .*make it writable"),
        (errno.EACCES, "may not be written by this user"),
        (errno.EIO, "cannot be read or written: .*replace the disk"),
        (errno.ENOTCONN, "is not mounted any more: .*Mount it again"),
        (errno.ESTALE, "is not mounted any more"),
    ],
)
def test_a_disk_is_named(settings, number, words):
    named = pytest.raises(StorageError, match=f"/data/part.parquet {words}")
    with named, failures_explained(settings):
        raise OSError(number, os.strerror(number), "/data/part.parquet")


def test_with_a_bucket_a_full_disk_is_that_of_the_copies(settings):
    day = settings.home / "copy" / "lake" / "land" / "day=2024-03-01"
    day.mkdir(parents=True)
    (day / "rows").write_bytes(b"x" * 3_000_000)
    words = "one day of this home takes about 3 MB.*storage.cache_gb"
    with pytest.raises(StorageError, match=words), failures_explained(settings):
        raise OSError(errno.ENOSPC, "No space left on device", str(day))


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), ValueError("a bug")])
def test_what_is_not_the_machines_stays_what_it_is(settings, error):
    with pytest.raises(type(error)), failures_explained(settings):
        raise error


def fail_with(error: Exception):
    def task(batches):
        raise error
        yield

    return task


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadInput("log/d1.csv has no column 'user'."), BadInput),
        (ValueError("cannot convert"), TaskError),
        (MemoryError("3 GiB"), TaskError),
    ],
)
def test_an_exception_inside_a_spark_task_arrives_as_our_own(spark, settings, error, kind):
    rows = spark.range(3).mapInArrow(fail_with(error), "id long")
    with pytest.raises(kind, match=str(error)) as caught, failures_explained(settings):
        rows.collect()
    assert "\n" not in str(caught.value)


FILL = """
import os, sys
from datetime import date
from pathlib import Path
from jobs.lake import Lake
from jobs.pipeline.failures import failures_explained
from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings
from jobs.errors import EvergreenError

home = Path(sys.argv[1])
settings = Settings(home=home, source=EdgelistSettings(kind="edgelist", path=home / "log"))

def commit(n):
    with failures_explained(settings), settings.lake.writing("land", day, recipe="s") as staging:
        (staging.path / "rows").write_bytes(os.urandom(n))

day = date(2024, 3, 1)
commit(1_000_000)
before = settings.lake.get("land", day)
try:
    commit(9_000_000)
except EvergreenError as error:
    print(error)
assert settings.lake.get("land", day) == before
assert not list((home / "lake" / "_staging").iterdir())
commit(2_000_000)
print("written again:", settings.lake.get("land", day) != before)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux)")
def test_a_full_disk_leaves_the_old_partition_and_nothing_half_written(tmp_path):
    """On a real file system of 6 MB."""
    mount = f"mount -t tmpfs -o size=6m tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount],
        input=FILL,
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no file system can be mounted here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    assert "is full: 5 MB of 6 MB are free, and one day of this home takes about 1 MB" in ran.stdout
    assert "written again: True" in ran.stdout


def test_errors_of_ours_pass(settings):
    with pytest.raises(EvergreenError, match="as it is"), failures_explained(settings):
        raise EvergreenError("as it is")
