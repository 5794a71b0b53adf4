"""make bench-land: from a log's files to trusted days.

The log is 5 million engagements on 30 days, in eight gzipped CSV files; SIZE=0.1 takes a tenth. The
peer is DuckDB's `COPY … TO … (PARTITION_BY day)` from the same files, on two cores, interleaved. It
neither says what became of a line that it could not read, nor checks, sorts or buckets a row.
Measured are: reading every file once into rows by day, with the account of every line; the same
with all 30 days landed, validated, bucketed and committed, in a Spark session that has run a day
before; a day of 20,000 rows; the first and last day of a log that is known; and the memory of one
process that reads all rows from a single file.
"""

from __future__ import annotations

import gzip
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from rich.progress import track

from jobs.settings import MLflowSettings, Settings, SparkSettings, ValidationSettings
from jobs.sources import open_source, reopen_sources
from jobs.sources.table import TableSettings
from jobs.spark.session import spark_session
from jobs.steps import land, validate
from perf.report import Figure, arguments, finish
from perf.timing import cpu_since, cpu_times, seconds

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = 5_000_000
FILES = 8
DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(30)]
SMALL_DAY = 20_000  # rows
ROUNDS = 5
CORES = 2
DAY_S = 86_400


def main() -> int:
    options = arguments(__doc__, size="1")
    rows = int(ROWS * float(options.size))
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        root = Path(folder)
        write_log(root / "log", rows, options.seed)
        figures = measured(root, rows, options.seed)
    return finish("land", figures, options.seed)


def measured(root: Path, rows: int, seed: int) -> list[Figure]:
    reading: list[float] = []
    copying: list[float] = []
    for _ in track(range(ROUNDS), "reading"):
        reading.append(seconds(lambda: read_anew(root)))
        copying.append(seconds(lambda: copy_by_day(root / "log", root / "copied")))
    settings = settings_of(root / "log", root / "home")
    small = settings_of(root / "small", root / "small-home")
    write_log(root / "small", SMALL_DAY * len(DAYS), seed)
    with session(settings) as spark:
        one_day = [cost(partial(land_and_validate, spark, small, [day])) for day in DAYS]
        everything = []
        for _ in track(range(2), "landing"):
            shutil.rmtree(settings.home, ignore_errors=True)
            everything.append(cost(partial(land_and_validate, spark, settings, DAYS)))
    warm = one_day[len(DAYS) // 2 :]
    known = [seconds(lambda: opened(settings).span()) for _ in range(20)]
    peer = "DuckDB COPY PARTITION_BY"
    return [
        Figure(f"{rows:,} rows read", median(reading), "s", peer, median(copying)),
        Figure(
            "and landed, validated, committed",
            median(wall_s for wall_s, _ in everything),
            "s",
            peer,
            median(copying),
            bar=2.0,
            bar_on_ratio=True,
        ),
        Figure(
            "and landed, validated, committed, CPU", median(cpu_s for _, cpu_s in everything), "s"
        ),
        Figure("a day of 20,000 rows, warm", median(wall_s for wall_s, _ in warm), "s", bar=2.5),
        Figure("a day of 20,000 rows, CPU", median(cpu_s for _, cpu_s in warm), "s"),
        Figure("span of a known log", 1000 * median(known), "ms", bar=50),
        Figure("peak memory, one file", peak_memory(root, rows, seed), "MiB", bar=1024),
    ]


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Call it, and return the seconds that it took: of the clock, and of CPUs."""
    before = cpu_times()
    wall_s = seconds(work)
    return wall_s, cpu_since(before)


def write_log(folder: Path, rows: int, seed: int) -> None:
    """Gzipped CSV files, one after another in time, with skewed users and authors."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    start = int(datetime(DAYS[0].year, DAYS[0].month, DAYS[0].day, tzinfo=UTC).timestamp())
    length = len(DAYS) * DAY_S // FILES
    for number in range(FILES):
        begin = start + number * length
        times = np.sort(rng.integers(begin, begin + length, rows // FILES))
        file = folder / f"part-{number}.csv.gz"
        file.write_bytes(gzip.compress(lines(times, rng), 6))


def lines(times: np.ndarray, rng: np.random.Generator) -> bytes:
    users = rng.zipf(1.3, len(times)) % 200_000
    authors = rng.zipf(1.2, len(times)) % 20_000
    kinds = rng.choice(["click", "like"], len(times))
    texts = np.datetime_as_string(times.astype("datetime64[s]"))
    rows = [
        f"u{user},p{author},{kind},1,{text}"
        for user, author, kind, text in zip(users, authors, kinds, texts, strict=True)
    ]
    return "\n".join(["user,author,kind,value,time", *rows, ""]).encode()


def settings_of(log: Path, home: Path) -> Settings:
    source = TableSettings(
        kind="table",
        path=log,
        columns={
            "consumer_id": "user",
            "producer_id": "author",
            "kind": "kind",
            "value": "value",
            "time": "time",
        },
        time_unit="iso",
    )
    return Settings(
        home=home,
        source=source,
        spark=SparkSettings(master=f"local[{CORES}]", partitions=CORES),
        mlflow=MLflowSettings(uri="off"),
        # Skewed draws within a second repeat; what is measured is a day that passes.
        validation=ValidationSettings(max_bad_share=0.9),
    )


def opened(settings: Settings):
    reopen_sources()
    return open_source(settings)


def read_anew(root: Path) -> None:
    home = root / "read"
    shutil.rmtree(home, ignore_errors=True)
    first, last = opened(settings_of(root / "log", home)).span()
    assert (first, last) == (DAYS[0], DAYS[-1]), "every day of the log is known"


def copy_by_day(log: Path, to: Path) -> None:
    """The peer: the same rows in one folder a day."""
    shutil.rmtree(to, ignore_errors=True)
    columns = (
        "{'user': VARCHAR, 'author': VARCHAR, 'kind': VARCHAR, 'value': DOUBLE, 'time': TIMESTAMP}"
    )
    with duckdb.connect(config={"threads": CORES}) as database:
        database.execute(
            f"COPY (SELECT *, CAST(time AS DATE) AS day FROM read_csv('{log}/*.csv.gz', "
            f"columns = {columns}, header = true)) TO '{to}' (FORMAT parquet, PARTITION_BY (day))"
        )


def land_and_validate(spark: SparkSession, settings: Settings, days: list[date]) -> None:
    opened(settings)
    for day in days:
        land.run(spark, settings, day)
        validate.run(spark, settings, day)


@contextmanager
def session(settings: Settings) -> Iterator[SparkSession]:
    spark = spark_session(settings)
    try:
        yield spark
    finally:
        spark.stop()


def peak_memory(root: Path, rows: int, seed: int) -> float:
    """MiB of a process of its own that reads all rows from one file that is not compressed."""
    folder = root / "one"
    folder.mkdir()
    with (folder / "all.csv").open("wb") as stream:
        for number, file in enumerate(sorted((root / "log").iterdir())):
            text = gzip.decompress(file.read_bytes())
            stream.write(text if number == 0 else text.partition(b"\n")[2])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(memory_of_reading, folder, root / "one-home").result()


def memory_of_reading(log: Path, home: Path) -> float:
    opened(settings_of(log, home)).span()
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1024


if __name__ == "__main__":
    sys.exit(main())
