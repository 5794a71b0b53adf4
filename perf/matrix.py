"""make bench-matrix: from one week's engagements to the matrix, by the step and by two peers.

The peers are DuckDB and Spark's groupBy, which the step used before. The input has 6.6 million
engagements of 200,000 consumers with 20,000 producers on seven days, spread over files as `land`
writes them; SIZE=0.1 takes a tenth of each. Every contestant starts from the Parquet files and ends
with the blocks on disk, on two cores, and all blocks must be equal. The first round, which starts
workers and compiles, is not timed. Bars: four times as fast as the groupBy, no slower than DuckDB.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.progress import track

from embeddings.blocks import load_blocks, stack
from embeddings.kernels.strength_bound import UNBOUNDED
from jobs.lake.buckets import Part
from jobs.lake.schema import ENGAGEMENT_TABLE, ENGAGEMENTS
from jobs.settings import MatrixSettings, Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.spark.session import spark_session
from jobs.steps import matrix
from perf.matrix_peers import duckdb_blocks, duckdb_pairs, group_by
from perf.report import Figure, arguments, finish
from perf.timing import seconds

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

N_EVENTS = 6_600_000
N_CONSUMERS = 200_000
N_PRODUCERS = 20_000
DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(7)]
CORES = 2
ROUNDS = 5
MAX_OF_GROUP_BY = 1 / 4
MAX_OF_DUCKDB = 1.0

Contestant = Callable[[Path], None]  # writes the matrix below a folder


def main() -> int:
    options = arguments(__doc__, size="1")
    size = float(options.size)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        home = Path(folder)
        settings = Settings(
            home=home,
            source=EdgelistSettings(kind="edgelist", path=home / "none"),
            spark=SparkSettings(master=f"local[{CORES}]", partitions=CORES),
            matrix=MatrixSettings(producers=int(N_PRODUCERS * size), weights={"follow": 2.5}),
        )
        spark = spark_session(settings)
        parts = write_days(spark, settings, size, options.seed)
        times = compare(contestants(spark, parts, settings.matrix), home)
        # A fresh process, so that the peak is the task's and not that of the rounds before.
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            peak = fresh.submit(peak_of_a_task, parts, settings.matrix, home / "one task").result()
    medians = {name: median(values) for name, values in times.items()}
    step_s = medians["step"]
    name = "a week's files -> blocks"
    figures = [
        Figure(
            name,
            step_s,
            "s",
            peer="Spark groupBy -> the same",
            peer_value=medians["groupBy"],
            bar=MAX_OF_GROUP_BY,
            bar_on_ratio=True,
        ),
        Figure(
            name,
            step_s,
            "s",
            peer="DuckDB -> the same",
            peer_value=medians["DuckDB"],
            bar=MAX_OF_DUCKDB,
            bar_on_ratio=True,
        ),
        Figure(name, step_s, "s", "DuckDB's group-by alone", medians["DuckDB's group-by alone"]),
        Figure(
            "a task's peak memory per engagement of its bucket",
            CORES * peak / (N_EVENTS * size),
            "B",
        ),
    ]
    return finish("matrix", figures, options.seed)


# The days


def write_days(spark: SparkSession, settings: Settings, size: float, seed: int) -> list[Part]:
    """Commit validated days, and return the files of their engagements."""
    raw = settings.home / "raw.parquet"
    rng = np.random.default_rng(seed)
    consumers = rng.permutation([f"consumer-{n}" for n in range(int(N_CONSUMERS * size))])
    producers = rng.permutation([f"producer-{n}" for n in range(int(N_PRODUCERS * size))])
    n_events = int(N_EVENTS * size) // len(DAYS)
    parts: list[Part] = []
    for day in track(DAYS, "days"):
        pq.write_table(random_day(n_events, consumers, producers, rng), raw)
        with settings.lake.writing("validate", day, settings="bench") as staging:
            staging.write(
                spark.read.parquet(str(raw)),
                ENGAGEMENT_TABLE,
                list(ENGAGEMENTS),
                settings.spark.partitions,
            )
        parts += settings.lake.get("validate", day).parts(ENGAGEMENT_TABLE)
    return parts


def random_day(
    n: int, consumers: np.ndarray, producers: np.ndarray, rng: np.random.Generator
) -> pa.Table:
    """n engagements; activity ∝ rank^−0.5, popularity ∝ rank^−0.8."""
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
    """n ranks below size; the probability of a rank is proportional to (rank + 1)^−exponent."""
    mass = np.cumsum(np.arange(1, size + 1) ** -exponent)
    return np.searchsorted(mass, rng.random(n) * mass[-1])


# The contestants


def contestants(
    spark: SparkSession, parts: list[Part], cfg: MatrixSettings
) -> dict[str, Contestant]:
    """By name. The last one stops before writing, with its pairs in memory."""
    files = [part.path for part in parts]

    def step(home: Path) -> None:
        matrix.count(spark, [(part, 1.0) for part in parts], cfg, CORES, home)
        matrix.lay_out(spark, cfg, CORES, home)

    return {
        "step": step,
        "groupBy": lambda home: group_by(spark, files, cfg, CORES, home),
        "DuckDB": lambda home: duckdb_blocks(files, cfg, CORES, home),
        "DuckDB's group-by alone": lambda home: duckdb_pairs(files, cfg, CORES).close(),
    }


def compare(contestants: dict[str, Contestant], home: Path) -> dict[str, list[float]]:
    """Seconds of each contestant in every round.

    The round before the first is not timed; its results are compared with those of the step.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in track(range(ROUNDS + 1), "rounds"):
        for name, contestant in contestants.items():
            out = home / name
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            took_s = seconds(partial(contestant, out))
            if number > 0:
                times[name].append(took_s)
            elif (out / "producers.npy").exists():
                check_same(home / "step", out)
    for name, values in times.items():
        rounds = ", ".join(f"{took_s:.2f}" for took_s in values)
        print(f"{name}: {rounds} s")
    return times


def check_same(home: Path, other: Path) -> None:
    """Raise AssertionError unless both have the same producers and the same consumers' rows.

    The distribution of consumers over blocks may differ.
    """
    np.testing.assert_array_equal(np.load(home / "producers.npy"), np.load(other / "producers.npy"))
    for name in ("fitted", "rest"):
        for expected, found in zip(by_id(home, name), by_id(other, name), strict=True):
            np.testing.assert_array_equal(expected, found)


def by_id(home: Path, name: str) -> list[np.ndarray]:
    """Ids, engagements, indptr, indices and strengths of all blocks, with rows sorted by id."""
    blocks = load_blocks(home / name)
    n_producers = len(np.load(home / "producers.npy"))
    if not blocks:
        return []
    ids = np.concatenate([block.ids for block in blocks])
    engagements = np.concatenate([block.engagements for block in blocks])
    order = np.argsort(ids)
    x: sp.csr_matrix = stack(blocks, n_producers)[order]
    return [ids[order], engagements[order], x.indptr, x.indices, x.data]


# Memory


def peak_of_a_task(parts: list[Part], cfg: MatrixSettings, home: Path) -> int:
    """Bytes that the two tasks of the first bucket add, at their peak, to a loaded process."""
    # An empty bucket loads and compiles everything before the peak is reset.
    matrix.counter([], CORES, cfg, home / "nothing")(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, see proc(5)
    before = peak_of_this_process()
    matrix.counter(parts, CORES, cfg, home / matrix.COUNTED)(0)
    producers = np.load(home / matrix.COUNTED / "bucket-00000" / "producers.npy")
    np.save(home / "producers.npy", producers[: cfg.producers])
    matrix.block_writer(cfg.min_engagements, UNBOUNDED, home)(0)
    return peak_of_this_process() - before


def peak_of_this_process() -> int:
    """Bytes. Not `getrusage`, whose peak is inherited from the parent process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "VmHWM":
            return int(value.removesuffix("kB")) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM: this measurement needs Linux.")


if __name__ == "__main__":
    sys.exit(main())
