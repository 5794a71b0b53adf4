"""make bench-align: the step `align` as it runs, files included: 100,000 producers x 128.

Two days of a log whose factors are drawn: signal in directions of falling strength, noise, and
coordinates of their own on each day. The second day is aligned to the reference that the first one
left, judged, compared with the first one, and leaves a reference itself. The peer is what every
alignment needs at least: SciPy's orthogonal Procrustes of the same producers on one thread, from
memory to memory, with the product of the vectors and the rotation. SIZE=0.1 takes a tenth of the
producers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits

from embeddings.blocks import Block, save_block
from embeddings.fold_in.base import save_fold_in
from embeddings.fold_in.svd import SVDFoldIn
from jobs.pipeline.plan import writing
from jobs.pipeline.running import request
from jobs.settings import EmbeddingSettings, MLflowSettings, Settings
from jobs.sources.edgelist import EdgelistSettings
from jobs.spark.session import spark_session
from jobs.steps import align
from perf.report import Figure, arguments, finish

K = 128
N_PRODUCERS = 100_000
N_CONSUMERS = 10_000  # fitted ones
DAYS = (date(2024, 1, 1), date(2024, 1, 2))
ROUNDS = 7


def main() -> int:
    options = arguments(__doc__, size="1")
    n = int(N_PRODUCERS * float(options.size))
    with tempfile.TemporaryDirectory() as home:
        settings = settings_of(Path(home))
        for number, day in enumerate(DAYS):
            request(settings, "validate", day, lambda: spark_session(settings))
            commit_factors(settings, day, n, options.seed, number)
        align.run(None, settings, DAYS[0])
        step, peer = [], []
        for _ in range(ROUNDS):
            step.append(seconds_of_step(settings))
            peer.append(seconds_of_procrustes(settings))
        facts = settings.lake.get("align", DAYS[1]).facts
    figures = [
        Figure(
            f"align, {n:,} producers x {K}",
            median(step),
            "s",
            peer="SciPy's Procrustes, in memory",
            peer_value=median(peer),
            bar=1.0,
        ),
        Figure("cosine to the day before, held out", facts["cosine_to_previous"], ""),
        Figure("stable rank", facts["stable_rank"], "directions"),
    ]
    return finish("align", figures, options.seed)


def settings_of(home: Path) -> Settings:
    """A log with two lines a day, of which the steps before `matrix` are computed."""
    log = home / "log.txt"
    stamps = [int(np.datetime64(day, "s").astype(int)) for day in DAYS]
    log.write_text("".join(f"c{n} p{n} {stamp + n}\n" for stamp in stamps for n in range(2)))
    return Settings(
        home=home / "home",
        source=EdgelistSettings(kind="edgelist", path=log),
        embedding=EmbeddingSettings(name="author", dim=K),
        mlflow=MLflowSettings(uri="off"),
    )


def commit_factors(settings: Settings, day: date, n: int, seed: int, number: int) -> None:
    """Commit `matrix` and `embed` of a day with factors that were drawn."""
    truth = np.random.default_rng(seed)
    strengths = np.linspace(2, 0.2, K).astype(np.float32)
    rng = np.random.default_rng((seed, number))
    rotation = np.linalg.qr(rng.normal(size=(K, K)))[0].astype(np.float32)
    producers, consumers = (
        (truth.normal(size=(rows, K)).astype(np.float32) * strengths + noise(rng, rows)) @ rotation
        for rows in (n, N_CONSUMERS)
    )
    sums = truth.integers(1, 100, n).astype(np.float64)
    ids = np.array([b"c%07d" % row for row in range(N_CONSUMERS)])
    pairs = np.arange(N_CONSUMERS + 1)
    block = Block(ids, np.ones(N_CONSUMERS, np.int32), pairs, pairs[1:] % n, np.ones(N_CONSUMERS))
    with writing(settings, "matrix", day) as staging:
        np.save(staging.path / "producers.npy", np.array([b"p%07d" % row for row in range(n)]))
        np.save(staging.path / "column_sums.npy", sums)
        save_block(staging.path / "fitted" / "block-00000", block)
    with writing(settings, "embed", day) as staging:
        np.save(staging.path / "producers.npy", producers)
        (staging.path / "consumers").mkdir()
        np.save(staging.path / "consumers" / "block-00000.npy", consumers)
        save_fold_in(staging.path / "fold_in", SVDFoldIn(producers, sums))


def noise(rng: np.random.Generator, rows: int) -> np.ndarray:
    return 0.3 * rng.normal(size=(rows, K)).astype(np.float32)


def seconds_of_step(settings: Settings) -> float:
    start = time.perf_counter()
    align.run(None, settings, DAYS[1])
    return time.perf_counter() - start


def seconds_of_procrustes(settings: Settings) -> float:
    a, b = (np.load(settings.lake.get("embed", day).path / "producers.npy") for day in DAYS)
    start = time.perf_counter()
    with threadpool_limits(1):
        rotation, _ = orthogonal_procrustes(a, b, check_finite=False)
        _ = a @ rotation
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
