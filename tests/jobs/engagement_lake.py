"""Small validated days of engagements, committed straight into a lake: what the embeddings' steps read."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.settings import EmbeddingSettings, MatrixSettings, Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
Engagement = tuple[str, str, str]  # consumer, producer, kind


def engagement_settings(home: Path) -> Settings:
    """Settings of a log of three days, read for its span only: the days are committed by the tests."""
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


def random_day(seed: int, n: int = 400) -> list[Engagement]:
    """A heavy-tailed day of likes and follows."""
    rng = np.random.default_rng(seed)
    consumers, producers = rng.zipf(1.4, n) % 60, rng.zipf(1.3, n) % 40
    return [
        (f"c{c}", f"p{p}", k)
        for c, p, k in zip(consumers, producers, rng.choice(["like", "follow"], n), strict=True)
    ]


def commit_day(settings: Settings, day: date, rows: list[Engagement] | None) -> None:
    """A validated day of these engagements in one file; None: a day that validation refused."""
    with settings.lake.writing(
        "validate", day, settings=settings.digest("source", "validation")
    ) as staging:
        staging.facts |= {
            "trusted": rows is not None,
            "reason": "" if rows is not None else "too few rows",
        }
        if rows is not None:
            (staging.path / "engagements").mkdir()
            pq.write_table(table_of(rows), staging.path / "engagements" / "part-00000.parquet")


def table_of(rows: list[Engagement]) -> pa.Table:
    """The columns of the schema; every value is 1."""
    columns = dict(
        zip(("consumer_id", "producer_id", "kind"), map(list, zip(*rows, strict=True)), strict=True)
    )
    ones, nothing = pa.array([1.0] * len(rows)), pa.nulls(len(rows), pa.string())
    return pa.table(
        {**columns, "item_id": nothing, "value": ones, "time_ms": pa.nulls(len(rows), pa.int64())}
    )


KILLED = textwrap.dedent("""
    import os, signal, sys
    from datetime import date
    from importlib import import_module
    from jobs.spark.session import spark_session
    from jobs.settings import Settings
    settings = Settings.model_validate_json(sys.argv[1])
    step, module, name = sys.argv[2:5]
    die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    setattr(import_module(module), name, die)
    spark = spark_session(settings) if step == "matrix" else None
    import_module(f"jobs.{step}").run(spark, settings, date(2024, 1, 1))
""")


def run_and_kill(
    settings: Settings, step: str, module: str, name: str
) -> subprocess.CompletedProcess:
    """Run a step of the first day in a process of its own, which kills itself (-9) when it comes to module.name."""
    command = [sys.executable, "-c", KILLED, settings.model_dump_json(), step, module, name]
    return subprocess.run(command, capture_output=True)


def arrays(home: Path) -> dict[str, bytes]:
    """Every array below a folder."""
    files = {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*.npy")}
    assert files
    return files
