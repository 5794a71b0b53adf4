"""Files of a log that Spark's tasks read."""

from __future__ import annotations

from dataclasses import asdict

from jobs.intake.index import read_log
from jobs.intake.reading import Field, Wanted
from jobs.spark.log_files import taker_on


def test_files_that_are_read_by_tasks_of_spark_are_those_that_one_process_reads(spark, tmp_path):
    for number in range(3):
        lines = [f"u{n},2024-03-0{number + 1} 10:00:{n}" for n in range(10, 20)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["user,at", *lines, "broken"]))
    (tmp_path / "empty.csv").write_text("")
    wanted = Wanted((Field("consumer_id", "user"),), "at", "iso", "UTC")
    files = dict.fromkeys(sorted(tmp_path.glob("*.csv")), wanted)
    there = read_log(files, tmp_path / "there", taker_on(lambda: spark))
    here = read_log(files, tmp_path / "here")
    assert [asdict(file.account) for file in there.files] == [
        asdict(file.account) for file in here.files
    ]
    for one, other in zip(there.readable, here.readable, strict=True):
        for day in one.days:
            (part,), (same,) = one.rows_of(day), other.rows_of(day)
            assert part.read_bytes() == same.read_bytes()
