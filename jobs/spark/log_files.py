"""Reading the files of a log on the executors of a cluster, a task a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.intake.index import Taker
from jobs.intake.reading import Wanted
from jobs.intake.taken import Account, take

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

SCHEMA = "number long, account string"


def taker_on(make_spark: Callable[[], SparkSession]) -> Taker:
    """Read files where Spark's tasks run, into a folder that they share with this process."""

    def taken(files: list[tuple[Path, Wanted]], root: Path) -> list[Account]:
        spark = make_spark()
        numbers = spark.range(0, len(files), 1, len(files))
        found = numbers.mapInArrow(reader(files, root), SCHEMA).toArrow()
        accounts = dict(zip(*found.to_pydict().values(), strict=True))
        return [Account(**json.loads(accounts[number])) for number in range(len(files))]

    return taken


def reader(
    files: list[tuple[Path, Wanted]], root: Path
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A task that reads the files of the numbers that it is given."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            for number in batch.column(0).to_pylist():
                file, wanted = files[number]
                account = take(file, wanted, root)
                rows = {"number": [number], "account": [json.dumps(asdict(account))]}
                yield pa.RecordBatch.from_pydict(rows)

    return work
