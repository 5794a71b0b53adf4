"""make bench-als: one iteration of ALS, k = 64, against `implicit` and against MLlib.

The matrix is 200,000 x 20,000 with some 5 M non-zeros of strength 1, in 100 communities; a tenth is
held out. Ours and `implicit`'s conjugate gradients minimise the same loss (ν = 0 and `implicit`'s
parameters translated, as in tests/embeddings/embedders/test_als.py), alternating, on all cores,
with three regularisations each. CPU time is of the process, per iteration, medians. Recall@20 is
the best of the three. MLlib runs on Spark local[2]: the time of three iterations minus that of one,
halved. SIZE=0.1 makes everything a tenth as large.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np
import pandas as pd
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from rich.progress import track
from threadpoolctl import threadpool_limits

from embeddings.benchmarks.metrics import rank
from embeddings.benchmarks.splits import hold_out_pairs
from embeddings.embedders.als import ALSConfig, als, initial_rows, row_numbers
from jobs.machine import usable_cpus
from jobs.settings import SparkSettings, load_settings
from jobs.spark.session import spark_session
from perf.report import Figure, arguments, finish
from perf.svd import community_matrix
from perf.timing import seconds

CFG = ALSConfig(dim=64, iterations=8, unobserved_weight=0.1, frequency_exponent=0.0)
REGULARIZATIONS = (0.1, 1.0, 10.0)
THREADS = usable_cpus()
TOP = 20  # of recall
MAX_EVALUATED = 10_000  # consumers whose recall is measured
N_SOLVED = 500  # producers that are compared with dense solves


def main() -> int:
    options = arguments(__doc__, size="1")
    size = float(options.size)
    seed = options.seed
    x = community_matrix(int(200_000 * size), int(20_000 * size), int(5.3e6 * size), 100, seed)
    x.data[:] = 1.0
    train, held_out = hold_out_pairs(x, 0.1, [seed, 1])
    print(f"{x.shape[0]:,} x {x.shape[1]:,}, {train.nnz:,} non-zeros to learn from", flush=True)
    # Compile before anything is timed.
    als(train[:1000], CFG.model_copy(update={"iterations": 1}))
    als(train[:1000], CFG.model_copy(update={"iterations": 1, "solver": "exact"}))
    ours, theirs = against_implicit(train, held_out, seed)
    mllib_s = mllib_seconds(train, seed)
    wall_s = median(ours.wall_s)
    recall = max(ours.recalls)
    peer_recall = max(theirs.recalls)
    figures = [
        Figure(
            "CPU of an iteration",
            median(theirs.cpu_s),
            "core-s",
            peer="ours",
            peer_value=median(ours.cpu_s),
            bar=3.0,
            at_most=False,
            bar_on_ratio=True,
        ),
        Figure("wall time of an iteration", median(theirs.wall_s), "s", "ours", wall_s),
        Figure("Recall@20 less `implicit`'s", recall - peer_recall, "", bar=-0.002, at_most=False),
        Figure("Recall@20", recall, "", "implicit", peer_recall),
        Figure(
            "wall time of an iteration of MLlib",
            mllib_s,
            "s",
            peer="ours",
            peer_value=wall_s,
            bar=15.0,
            at_most=False,
            bar_on_ratio=True,
        ),
        Figure("exact solver: error against dense solves", exact_error(train, seed), "", bar=1e-5),
    ]
    return finish("als", figures, seed)


@dataclass(frozen=True)
class Runs:
    """Seconds of every iteration of several fits, and the Recall@TOP of every fit."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)


class IterationTimer:
    """A callback that notes the time at the end of every iteration."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def __call__(self, *_: object) -> None:
        self.times.append((time.process_time(), time.perf_counter()))

    def seconds(self) -> np.ndarray:
        """(iterations − 1, 2): CPU and wall. The first iteration is left out: it has the set-up."""
        return np.diff(np.array(self.times), axis=0)


def against_implicit(train: sp.csr_matrix, held_out: sp.csr_matrix, seed: int) -> tuple[Runs, Runs]:
    """Ours and theirs, alternating, for every regularisation."""
    # Alternating, so that a busy machine slows down both.
    fits: tuple[Callable, Callable] = (fit_ours, fit_implicit)
    runs = (Runs(), Runs())
    for regularization in track(REGULARIZATIONS, "against implicit"):
        cfg = CFG.model_copy(update={"regularization": regularization, "seed": seed})
        for fit, run in zip(fits, runs, strict=True):
            timer = IterationTimer()
            consumers, producers = fit(train, cfg, timer)
            for cpu_s, wall_s in timer.seconds().tolist():
                run.cpu_s.append(cpu_s)
                run.wall_s.append(wall_s)
            run.recalls.append(mean_recall(train, held_out, consumers, producers, seed))
    return runs


def fit_ours(
    train: sp.csr_matrix, cfg: ALSConfig, timer: IterationTimer
) -> tuple[np.ndarray, np.ndarray]:
    factors = als(train, cfg, THREADS, progress=timer)
    return factors.consumers, factors.producers


def fit_implicit(
    train: sp.csr_matrix, cfg: ALSConfig, timer: IterationTimer
) -> tuple[np.ndarray, np.ndarray]:
    """The same loss in `implicit`'s parameters, from the same initial producers.

    Its factors are √(1 + α0) times ours.
    """
    weight = cfg.unobserved_weight
    with threadpool_limits(1, "blas"):  # it warns otherwise: its threads would compete with BLAS's
        model = AlternatingLeastSquares(
            factors=cfg.dim,
            regularization=(1 + weight) * cfg.regularization / weight,
            iterations=cfg.iterations,
            random_state=cfg.seed,
            num_threads=THREADS,
        )
        model.item_factors = np.float32(np.sqrt(1 + weight)) * initial_rows(
            row_numbers(train.shape[1]), cfg
        )
        model.fit(train * np.float32(1 + 1 / weight), show_progress=False, callback=timer)
    return model.user_factors, model.item_factors


def mean_recall(
    train: sp.csr_matrix,
    held_out: sp.csr_matrix,
    consumers: np.ndarray,
    producers: np.ndarray,
    seed: int,
) -> float:
    """Mean Recall@TOP of a sample of the consumers with held-out pairs."""
    candidates = np.flatnonzero(np.diff(held_out.indptr))
    sample = np.random.default_rng([seed, 2]).permutation(candidates)[:MAX_EVALUATED]
    ranking = rank(consumers[sample], producers, train[sample], held_out[sample])
    return float(ranking.recall(TOP).mean())


def mllib_seconds(train: sp.csr_matrix, seed: int) -> float:
    """Wall seconds of one of MLlib's iterations."""
    from pyspark.ml.recommendation import ALS

    session_settings = SparkSettings(master="local[2]", driver_memory="4g")
    spark = spark_session(load_settings().model_copy(update={"spark": session_settings}))
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        rows, columns = train.nonzero()
        pd.DataFrame({"user": rows, "item": columns, "rating": train.data}).to_parquet(file.name)
        pairs = spark.read.parquet(file.name).repartition(2).cache()
        pairs.count()
        took = {}
        for iterations in track((1, 3), "MLlib"):
            model = ALS(
                rank=CFG.dim,
                maxIter=iterations,
                implicitPrefs=True,
                alpha=10.0,
                regParam=0.01,
                seed=seed,
            )
            took[iterations] = seconds(partial(model.fit, pairs))
    spark.stop()
    return (took[3] - took[1]) / 2


def exact_error(train: sp.csr_matrix, seed: int) -> float:
    """The largest relative error of N_SOLVED producers against dense float64 solves in NumPy.

    Producers are solved after consumers: they are exact for the final consumers.
    """
    cfg = CFG.model_copy(
        update={"solver": "exact", "iterations": 2, "regularization": 1.0, "seed": seed}
    )
    factors = als(train, cfg, THREADS)
    columns = train.T.tocsr()
    u = factors.consumers.astype(np.float64)
    dense = cfg.unobserved_weight * u.T @ u + cfg.regularization * np.eye(cfg.dim)
    errors = []
    for j in np.random.default_rng([seed, 3]).permutation(columns.shape[0])[:N_SOLVED]:
        engaged = u[columns.indices[columns.indptr[j] : columns.indptr[j + 1]]]
        expected = np.linalg.solve(dense + engaged.T @ engaged, engaged.sum(axis=0))
        difference = float(np.linalg.norm(factors.producers[j] - expected))
        errors.append(difference / max(float(np.linalg.norm(expected)), 1e-30))
    return max(errors)


if __name__ == "__main__":
    sys.exit(main())
