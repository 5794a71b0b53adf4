"""Small validated days of engagements in a lake: the input of the steps that embed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prepared import validated

from jobs.settings import EmbeddingSettings, MatrixSettings, Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
Engagement = tuple[str, str, str]  # consumer, producer, kind


def engagement_settings(home: Path) -> Settings:
    """Settings with a log of three days, of which only the span is read: tests commit the days."""
    log = home / "log.txt"
    stamps = [int(np.datetime64(day, "s").astype(int)) for day in DAYS]
    log.write_text("".join(f"c1 p1 {stamp}\n" for stamp in stamps))
    return Settings(
        home=home / "home",
        source=EdgelistSettings(kind="edgelist", path=log),
        matrix=MatrixSettings(
            window_days=2, producers=15, min_engagements=3, weights={"follow": 2.5}
        ),
        embedding=EmbeddingSettings(name="author", dim=6),
        spark=SparkSettings(partitions=3),
    )


def random_day(seed: int, n: int = 800, tastes: int = 0) -> list[Engagement]:
    """A heavy-tailed day of likes and follows.

    Four groups of consumers mostly engage with ten producers each. tastes: other groups of both.
    """
    rng = np.random.default_rng(seed)
    liking = np.random.default_rng(1000 + tastes)
    group = liking.integers(0, 4, 60)
    liked = liking.permutation(40).reshape(4, 10)
    consumers = rng.zipf(1.4, n) % 60
    popularity = rng.zipf(1.3, n)
    of_group = liked[group[consumers], popularity % 10]
    producers = np.where(rng.random(n) < 0.8, of_group, popularity % 40)
    kinds = rng.choice(["like", "follow"], n)
    rows = zip(consumers, producers, kinds, strict=True)
    return [(f"c{consumer}", f"p{producer}", kind) for consumer, producer, kind in rows]


def commit_day(
    settings: Settings,
    day: date,
    rows: list[Engagement] | None,
    times_ms: list[int | None] | None = None,
) -> None:
    """Commit a validated day of these engagements in one file; None: a day that was refused."""
    with validated(settings, day) as staging:
        if rows is None:
            staging.facts |= {"trusted": False, "reason": "too few rows"}
            return
        staging.facts |= {"trusted": True, "reason": ""}
        (staging.path / "engagements").mkdir()
        table = table_of(rows, times_ms)
        pq.write_table(table, staging.path / "engagements" / "part-00000.parquet")


def table_of(rows: list[Engagement], times_ms: list[int | None] | None = None) -> pa.Table:
    """The columns of the schema; every value is 1. times_ms: one for each row, or nothing."""
    consumers, producers, kinds = zip(*rows, strict=True)
    return pa.table(
        {
            "consumer_id": list(consumers),
            "producer_id": list(producers),
            "kind": list(kinds),
            "item_id": pa.nulls(len(rows), pa.string()),
            "value": pa.array([1.0] * len(rows)),
            "time_ms": pa.array(times_ms or [None] * len(rows), pa.int64()),
        }
    )


KILLED = textwrap.dedent("""
    import os, signal, sys
    from datetime import date
    from importlib import import_module
    from jobs.spark.session import spark_session
    from jobs.settings import Settings

    def die(*args, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings.model_validate_json(sys.argv[1])
    step, module, name = sys.argv[2:5]
    setattr(import_module(module), name, die)
    spark = spark_session(settings) if step == "matrix" else None
    import_module(f"jobs.steps.{step}").run(spark, settings, date(2024, 1, 1))
""")


def run_and_kill(
    settings: Settings, step: str, module: str, name: str
) -> subprocess.CompletedProcess:
    """Run a step of the first day in a process that kills itself (-9) when it calls module.name."""
    command = [sys.executable, "-c", KILLED, settings.model_dump_json(), step, module, name]
    return subprocess.run(command, capture_output=True)


def arrays(home: Path) -> dict[str, bytes]:
    """Path -> bytes of every array below a folder."""
    files = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*.npy")}
    assert files
    return files
