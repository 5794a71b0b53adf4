"""make bench-train: examples and training of a large day, and the memory of a long window.

The day has 2 million impressions with columns like those of KuaiRand: eight labels, 22 categories
and four numbers of a consumer, five and three of an item, counts of the day before, and a published
version with vectors of length 32. `examples` runs on two cores in a Spark session that has run the
day before; each training in a process of its own, with two threads and batches of 4096. The long
window is that day ten times. SIZE=0.1 takes a tenth of the rows.

CPU seconds count all processes: on a machine that others use, they say more than wall time.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Vectors
from jobs.lake.store import Staging
from jobs.pipeline.origin import origin
from jobs.pipeline.plan import needs, recipe, writing
from jobs.pipeline.published import content_id
from jobs.settings import MLflowSettings, RankerSettings, Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.spark.session import spark_session
from jobs.steps import examples, train
from perf.report import Figure, arguments, finish
from perf.timing import cpu_since, cpu_times, seconds

ROWS = 2_000_000
YESTERDAY, TODAY = date(2024, 3, 1), date(2024, 3, 2)
DAY_MS = 86_400_000
CONSUMERS, PRODUCERS, ITEMS = 100_000, 20_000, 50_000
LABELS = {
    "click": 0.4,
    "long_view": 0.25,
    "like": 0.02,
    "profile_enter": 0.01,
    "comment": 0.003,
    "forward": 0.001,
    "follow": 0.001,
    "hate": 0.0005,
}
DIM = 32
ROUNDS = 3
WINDOW = 10  # times that the day is in the long window


# The log


def settings_of(home: Path) -> Settings:
    """A log of two days, of which only the span is read."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log.txt"
    stamps = [(day - date(1970, 1, 1)).days * 86_400 for day in (YESTERDAY, TODAY)]
    log.write_text("".join(f"c1 p1 {stamp}\n" for stamp in stamps))
    return Settings(
        home=home,
        source=EdgelistSettings(kind="edgelist", path=log),
        ranker=RankerSettings(start_day=YESTERDAY, batch_size=4096, threads=2),
        mlflow=MLflowSettings(uri="off"),
        spark=SparkSettings(master="local[2]", partitions=2),
    )


@contextmanager
def validated(settings: Settings, day: date) -> Iterator[Staging]:
    """Commit `validate` of a day, after what it needs."""
    for step, landed in needs(settings, "validate", day):
        if settings.lake.find(step, landed) is None:
            read = origin(settings, landed)
            with settings.lake.writing(
                step, landed, recipe=recipe(settings, step), log=read.log, sources=read.files
            ):
                pass
    with settings.lake.writing("quarantine", day, recipe=recipe(settings, "validate")):
        pass
    with writing(settings, "validate", day) as staging:
        yield staging


def commit_day(settings: Settings, day: date, rows: int, seed: int) -> None:
    """Trusted impressions, and the profiles of all consumers and items."""
    rng = np.random.default_rng([seed, day.toordinal()])
    with validated(settings, day) as staging:
        staging.facts |= {"trusted": True, "reason": "", "rows_impressions": rows}
        tables = {
            "impressions": impressions(day, rows, rng),
            "consumers": profiles("consumer", CONSUMERS, 22, 4, rng),
            "items": profiles("item", ITEMS, 5, 3, rng),
        }
        for name, table in tables.items():
            (staging.path / name).mkdir()
            half = -(-table.num_rows // 2)
            for part in range(2):
                file = staging.path / name / f"part-{part:05d}.parquet"
                pq.write_table(table.slice(part * half, half), file)


def impressions(day: date, rows: int, rng: np.random.Generator) -> pa.Table:
    """In no order, with popular consumers and items."""
    items = (rng.random(rows) ** 2 * ITEMS).astype(np.int64)
    consumers = (rng.random(rows) ** 2 * CONSUMERS).astype(np.int64)
    start = (day - date(1970, 1, 1)).days * DAY_MS
    columns: dict[str, pa.Array | np.ndarray] = {
        "consumer_id": ids("c", consumers),
        "producer_id": ids("p", items % PRODUCERS),
        "item_id": ids("i", items),
        "time_ms": start + rng.integers(0, DAY_MS, rows),
        "dwell_ms": rng.integers(0, 60_000, rows),
    }
    for label, rate in LABELS.items():
        columns[f"label_{label}"] = (rng.random(rows) < rate).astype(np.int32)
    for name in ("tab", "is_rand"):
        columns[f"ctx_{name}"] = ids("", rng.integers(0, 8, rows))
    return pa.table(columns)


def profiles(
    entity: str, n: int, categories: int, numbers: int, rng: np.random.Generator
) -> pa.Table:
    columns: dict[str, pa.Array | np.ndarray] = {f"{entity}_id": ids(entity[0], np.arange(n))}
    if entity == "item":
        columns["producer_id"] = ids("p", np.arange(n) % PRODUCERS)
    for number in range(categories):
        columns[f"cat_{number}"] = ids("v", rng.integers(0, 2 + 3 * number, n))
    for number in range(numbers):
        columns[f"num_{number}"] = rng.lognormal(3, 2, n)
    return pa.table(columns)


def ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    names = pa.array([f"{prefix}{number}" for number in range(int(numbers.max()) + 1)])
    return names.take(pa.array(numbers))


def publish(settings: Settings, day: date, seed: int) -> None:
    """A version of the day with nine tenths of all ids, after empty partitions before it."""
    rng = np.random.default_rng([seed, 3])
    entities = {}
    for entity, n in (("consumer", CONSUMERS), ("producer", PRODUCERS)):
        kept = rng.choice(n, n * 9 // 10, replace=False)
        names = np.sort(np.array([f"{entity[0]}{number}".encode() for number in kept]))
        vectors = rng.normal(size=(len(kept), DIM)).astype(np.float32)
        entities[entity] = Vectors(names, vectors, np.ones(len(kept), np.int32), kept < 0)
    fold_in = SVDFoldIn(entities["producer"].vectors, np.ones(len(entities["producer"].vectors)))
    version = settings.open_registry().publish(
        settings.embedding.name, day, "bench", entities, fold_in, lineage={}
    )
    for step in ("matrix", "embed", "align", "fold_in", "lookalike", "benchmark"):
        with writing(settings, step, day) as staging:
            staging.facts |= {"anchor": str(day), "left": ""}
    with writing(settings, "publish", day) as staging:
        staging.facts |= {
            "version": content_id(version),
            "space": version.space,
            "digest": version.digest,
        }


# What is measured


def main() -> int:
    options = arguments(__doc__, size="1")
    rows = int(ROWS * float(options.size))
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        settings = settings_of(Path(folder) / "home")
        commit_day(settings, YESTERDAY, rows // 10, options.seed)
        publish(settings, YESTERDAY, options.seed)
        commit_day(settings, TODAY, rows, options.seed)
        figures = measured(settings, rows)
    return finish("train", figures, options.seed)


def measured(settings: Settings, rows: int) -> list[Figure]:
    best = f"best of {ROUNDS}"
    written = fastest(examples_costs(settings))
    figures = cost_figures(f"examples of {rows:,} impressions, {best}", written)
    for precision in ("float32", "bfloat16"):
        costs = []
        for _ in track(range(ROUNDS), f"training, {precision}"):
            cost, alone_mib = in_process(learn, settings, precision, 1)
            costs.append(cost)
        learned = fastest(costs)
        figures += cost_figures(f"training on them, {precision}, {best}", learned)
        both = written.wall_s + learned.wall_s
        figures.append(Figure(f"both, {precision}", both, "s", bar=60))
    _, window_mib = in_process(learn, settings, "bfloat16", WINDOW)
    return [
        *figures,
        Figure(f"peak memory of training on {rows:,} rows", alone_mib, "MiB"),
        Figure(f"and on {WINDOW * rows:,} rows", window_mib, "MiB", bar=2048),
    ]


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float  # of all processes; on two idle cores, the wall time is at least half of it


def fastest(costs: list[Cost]) -> Cost:
    return min(costs, key=lambda cost: cost.wall_s)


def cost_figures(name: str, cost: Cost) -> list[Figure]:
    return [Figure(name, cost.wall_s, "s"), Figure(f"{name}: CPU", cost.cpu_s, "s")]


def cost_of(work: Callable[[], object]) -> Cost:
    before = cpu_times()
    wall_s = seconds(work)
    return Cost(wall_s, cpu_since(before))


def examples_costs(settings: Settings) -> list[Cost]:
    """Of `examples` of the day, in a session that has computed the day before."""
    spark = spark_session(settings)
    try:
        examples.run(spark, settings, YESTERDAY)
        return [cost_of(lambda: examples.run(spark, settings, TODAY)) for _ in range(ROUNDS)]
    finally:
        spark.stop()


def in_process(
    work: Callable[[Settings, str, int], Cost], settings: Settings, precision: str, days: int
) -> tuple[Cost, float]:
    """What the work costs in a process of its own, and the most memory of that process, MiB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        cost = pool.submit(work, settings, precision, days).result()
        return cost, pool.submit(peak_memory).result()


def learn(settings: Settings, precision: str, days: int) -> Cost:
    """Of training on the day so many times, from opening its files to the model."""
    # Imported here: torch is not part of what Spark needs.
    from models.training import train as fit

    ranker = settings.ranker.model_copy(update={"precision": precision})
    partition = settings.lake.get("examples", TODAY)
    spec = examples.spec_of(partition)

    def work() -> None:
        day = train.open_day(settings, partition)
        window = [replace(day, name=f"{TODAY}, {number}") for number in range(days)]
        printer = train.ProgressPrinter("training")
        cfg = train.training_config(ranker, 0)
        fit(window, spec, ranker.kind, ranker.options, cfg, printer)

    return cost_of(work)


def peak_memory() -> float:
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1024


if __name__ == "__main__":
    sys.exit(main())
