"""make bench-matrix: a week's engagements -> the matrix, by the step, by the Spark groupBy that it was, by DuckDB.

6.6 million engagements of 200,000 consumers with 20,000 producers on seven days, spread over files as `land` writes
them; SIZE=0.1 takes a tenth of each. Everybody starts from the Parquet files and ends with the blocks on disk, which
are compared to the last count, on two cores. The first round, which starts what has to be started, is not timed.
Bars: four times faster than the groupBy, no slower than DuckDB.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.progress import track

from embeddings.embedders.blocks import load_blocks, stack
from jobs.lake.buckets import Part
from jobs.lake.schema import ENGAGEMENT_TABLE, ENGAGEMENTS
from jobs.settings import MatrixSettings, Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.spark.session import spark_session
from jobs.steps import matrix
from perf.matrix_peers import duckdb_blocks, duckdb_pairs, group_by
from perf.report import Figure, arguments, finish

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EVENTS, CONSUMERS, PRODUCERS = 6_600_000, 200_000, 20_000
DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(7)]
CORES, ROUNDS = 2, 5
MOST_OF_GROUP_BY, MOST_OF_DUCKDB = 1 / 4, 1.0


def main() -> int:
    chosen = arguments(__doc__, size="1")
    size = float(chosen.size)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        home = Path(folder)
        settings = Settings(
            home=home,
            source=EdgelistSettings(kind="edgelist", path=home / "none"),
            spark=SparkSettings(master=f"local[{CORES}]", partitions=CORES),
            matrix=MatrixSettings(producers=int(PRODUCERS * size), weights={"follow": 2.5}),
        )
        spark = spark_session(settings)
        parts = write_days(spark, settings, size, chosen.seed)
        seconds = compare(contestants(spark, parts, settings.matrix), home)
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            peak = fresh.submit(peak_of_a_task, parts, settings.matrix, home / "one task").result()
    ours, spark_s, duckdb_s, pairs_s = (median(times) for times in seconds.values())
    per_event = CORES * peak / (EVENTS * size)
    name = "a week's files -> blocks"
    figures = [
        Figure(
            name,
            ours,
            "s",
            "Spark groupBy -> the same",
            spark_s,
            MOST_OF_GROUP_BY,
            bar_on_ratio=True,
        ),
        Figure(name, ours, "s", "DuckDB -> the same", duckdb_s, MOST_OF_DUCKDB, bar_on_ratio=True),
        Figure(name, ours, "s", "DuckDB's group-by alone", pairs_s),
        Figure("a task's peak memory, an engagement of its bucket", per_event, "B"),
    ]
    return finish("matrix", figures, chosen.seed)


# The days


def write_days(spark: SparkSession, settings: Settings, size: float, seed: int) -> list[Part]:
    """Commit the days as the steps before the matrix do; the files of their engagements."""
    raw = settings.home / "raw.parquet"
    rng = np.random.default_rng(seed)
    consumers = rng.permutation([f"consumer-{n}" for n in range(int(CONSUMERS * size))])
    producers = rng.permutation([f"producer-{n}" for n in range(int(PRODUCERS * size))])
    for day in track(DAYS, "days"):
        pq.write_table(random_day(int(EVENTS * size) // len(DAYS), consumers, producers, rng), raw)
        with settings.lake.writing("validate", day, settings="bench") as staging:
            staging.write(
                spark.read.parquet(str(raw)),
                ENGAGEMENT_TABLE,
                list(ENGAGEMENTS),
                settings.spark.partitions,
            )
    return [
        part for day in DAYS for part in settings.lake.get("validate", day).parts(ENGAGEMENT_TABLE)
    ]


def random_day(
    n: int, consumers: np.ndarray, producers: np.ndarray, rng: np.random.Generator
) -> pa.Table:
    """n engagements: activity falls with the square root of the rank, popularity nearly with the rank itself."""
    columns = {
        "consumer_id": consumers[zipf_ranks(len(consumers), 0.5, n, rng)],
        "producer_id": producers[zipf_ranks(len(producers), 0.8, n, rng)],
        "item_id": np.char.add("item-", rng.integers(0, 500_000, n).astype(str)),
        "kind": rng.choice(["like", "follow", "share"], n, p=[0.8, 0.1, 0.1]),
        "value": np.ones(n),
        "time_ms": rng.integers(0, 86_400_000, n),
    }
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def zipf_ranks(size: int, exponent: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """n ranks below size, each with a probability ∝ (rank + 1)^−exponent."""
    mass = np.cumsum(np.arange(1, size + 1) ** -exponent)
    return np.searchsorted(mass, rng.random(n) * mass[-1])


# The contestants


def contestants(
    spark: SparkSession, parts: list[Part], cfg: MatrixSettings
) -> dict[str, Callable[[Path], None]]:
    """Each writes the matrix below a folder; the last one stops before, with its pairs in memory."""
    files = [part.path for part in parts]

    def step(home: Path) -> None:
        matrix.count(spark, parts, cfg, CORES, home)
        matrix.lay_out(spark, cfg.min_engagements, CORES, home)

    return {
        "step": step,
        "groupBy": lambda home: group_by(spark, files, cfg, CORES, home),
        "DuckDB": lambda home: duckdb_blocks(files, cfg, CORES, home),
        "DuckDB's group-by alone": lambda home: duckdb_pairs(files, cfg, CORES).close(),
    }


def compare(contestants: dict[str, Callable[[Path], None]], home: Path) -> dict[str, list[float]]:
    """Seconds of each, round by round, after a first round whose results are compared with the first one's."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in track(range(ROUNDS + 1), "rounds"):
        for name, contestant in contestants.items():
            out = home / name
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            start = time.perf_counter()
            contestant(out)
            if number:
                seconds[name].append(time.perf_counter() - start)
            elif (out / "producers.npy").exists():
                assert_same(home / "step", out)
    print({name: [round(s, 2) for s in times] for name, times in seconds.items()})
    return seconds


def assert_same(home: Path, other: Path) -> None:
    """The same producers, and the same numbers of the same consumers, however they lie in blocks."""
    np.testing.assert_array_equal(np.load(home / "producers.npy"), np.load(other / "producers.npy"))
    for name in ("fitted", "rest"):
        for ours, theirs in zip(by_id(home, name), by_id(other, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def by_id(home: Path, name: str) -> list[np.ndarray]:
    """Ids, engagements, indptr, indices and strengths of all blocks, rows by id."""
    blocks, n_producers = load_blocks(home / name), len(np.load(home / "producers.npy"))
    if not blocks:
        return []
    ids, engagements = (
        np.concatenate([getattr(block, field) for block in blocks])
        for field in ("ids", "engagements")
    )
    order = np.argsort(ids)
    x: sp.csr_matrix = stack(blocks, n_producers)[order]
    return [ids[order], engagements[order], x.indptr, x.indices, x.data]


def peak_of_a_task(parts: list[Part], cfg: MatrixSettings, home: Path) -> int:
    """Bytes that the first bucket's two tasks add at their peak to a process that has everything loaded."""
    matrix.counter([], CORES, cfg, home / "nothing")(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_of_this_process()
    matrix.counter(parts, CORES, cfg, home / matrix.COUNTED)(0)
    known = np.load(home / matrix.COUNTED / "bucket-00000" / "producers.npy")
    np.save(home / "producers.npy", known[: cfg.producers])
    matrix.block_writer(cfg.min_engagements, home)(0)
    return peak_of_this_process() - before


def peak_of_this_process() -> int:
    """Bytes; the peak of `getrusage` would be that of the process from which this one was started."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].removesuffix("kB")) * 1024


if __name__ == "__main__":
    sys.exit(main())
