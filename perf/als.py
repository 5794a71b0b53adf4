"""make bench-als: an iteration of ALS, k = 64, beside `implicit`'s conjugate gradients and beside MLlib.

The matrix has 200,000 x 20,000 and some 5 M non-zeros of strength 1, in 100 communities; a tenth is held out. Ours and
`implicit` minimise the same loss (ν = 0 and `implicit`'s parameters translated, as in
tests/embeddings/embedders/test_als.py) with three regularisations each, on all cores, in turn; CPU is of the process,
per iteration, medians. Recall@20 is the best of the three. MLlib runs on Spark local[2]: the time of three iterations
less that of one. SIZE=0.1: a tenth of all.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import pandas as pd
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from rich.progress import track
from threadpoolctl import threadpool_limits

from embeddings.embedders.als import ALSConfig, als, initial_rows
from jobs.settings import SparkSettings, load_settings
from jobs.spark.session import spark_session
from perf.report import Figure, arguments, finish
from perf.svd import community_matrix

CFG = ALSConfig(dim=64, iterations=8, unobserved_weight=0.1, frequency_exponent=0.0)
REGULARIZATIONS = (0.1, 1.0, 10.0)
THREADS, TOP, JUDGED, ROWS_SOLVED = os.cpu_count() or 1, 20, 10_000, 500


def main() -> int:
    chosen = arguments(__doc__, size="1")
    size, seed = float(chosen.size), chosen.seed
    x = community_matrix(int(200_000 * size), int(20_000 * size), int(5.3e6 * size), 100, seed)
    x.data[:] = 1.0
    train, held_out = split(x, seed)
    print(f"{x.shape[0]:,} x {x.shape[1]:,}, {train.nnz:,} non-zeros to learn from", flush=True)
    als(train[:1000], replace(CFG, iterations=1))  # compiled
    als(train[:1000], replace(CFG, iterations=1, solver="exact"))
    ours, theirs = beside_implicit(train, held_out, seed)
    mllib = mllib_seconds(train, seed)
    wall = median(ours.wall_s)
    figures = [
        Figure(
            "CPU of an iteration",
            median(theirs.cpu_s),
            "core-s",
            "ours",
            median(ours.cpu_s),
            3.0,
            False,
            True,
        ),
        Figure("wall time of an iteration", median(theirs.wall_s), "s", "ours", wall),
        Figure(
            "Recall@20 less `implicit`'s", best(ours) - best(theirs), "", bar=-0.002, at_most=False
        ),
        Figure("Recall@20", best(ours), "", "implicit", best(theirs)),
        Figure("wall time of an iteration of MLlib", mllib, "s", "ours", wall, 15.0, False, True),
        Figure("exact solver: error against dense solves", exact_error(train, seed), "", bar=1e-5),
    ]
    return finish("als", figures, seed)


def split(x: sp.csr_matrix, seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Nine tenths of the pairs, and the rest."""
    held = np.random.default_rng([seed, 1]).random(x.nnz) < 0.1
    rows, columns = x.nonzero()
    parts = (
        sp.csr_matrix((x.data[part], (rows[part], columns[part])), shape=x.shape)
        for part in (~held, held)
    )
    return next(parts), next(parts)


@dataclass(frozen=True)
class Runs:
    """What several fits took per iteration, and the Recall@20 of each."""

    cpu_s: list[float]
    wall_s: list[float]
    recalls: list[float]


def best(runs: Runs) -> float:
    return max(runs.recalls)


class Laps:
    """Seconds between calls: each iteration ends with one."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float]] = []

    def __call__(self, *_: object) -> None:
        self.at.append((time.process_time(), time.perf_counter()))

    def seconds(self) -> np.ndarray:
        """(iterations - 1, 2): CPU and wall. What comes before the end of the first iteration is set-up, too."""
        return np.diff(np.array(self.at), axis=0)


def beside_implicit(train: sp.csr_matrix, held_out: sp.csr_matrix, seed: int) -> tuple[Runs, Runs]:
    """Ours and theirs in turn, regularisation by regularisation."""
    fits: tuple[Callable, Callable] = (fit_ours, fit_implicit)
    runs = (Runs([], [], []), Runs([], [], []))
    for regularization in track(REGULARIZATIONS, "beside implicit"):
        for fit, run in zip(fits, runs, strict=True):
            laps = Laps()
            consumers, producers = fit(
                train, replace(CFG, regularization=regularization, seed=seed), laps
            )
            for cpu_s, wall_s in laps.seconds().tolist():
                run.cpu_s.append(cpu_s)
                run.wall_s.append(wall_s)
            run.recalls.append(recall(train, held_out, consumers, producers, seed))
    return runs


def fit_ours(train: sp.csr_matrix, cfg: ALSConfig, laps: Laps) -> tuple[np.ndarray, np.ndarray]:
    factors = als(train, cfg, THREADS, progress=laps)
    return factors.consumers, factors.producers


def fit_implicit(train: sp.csr_matrix, cfg: ALSConfig, laps: Laps) -> tuple[np.ndarray, np.ndarray]:
    """The same loss in `implicit`'s parameters, from the same producers: its factors are √(1 + α0) times ours."""
    weight = cfg.unobserved_weight
    with threadpool_limits(1, "blas"):  # as it asks for
        model = AlternatingLeastSquares(
            factors=cfg.dim,
            regularization=(1 + weight) * cfg.regularization / weight,
            iterations=cfg.iterations,
            random_state=cfg.seed,
            num_threads=THREADS,
        )
        model.item_factors = np.float32(np.sqrt(1 + weight)) * initial_rows(0, train.shape[1], cfg)
        model.fit(train * np.float32(1 + 1 / weight), show_progress=False, callback=laps)
    return model.user_factors, model.item_factors


def recall(
    train: sp.csr_matrix,
    held_out: sp.csr_matrix,
    consumers: np.ndarray,
    producers: np.ndarray,
    seed: int,
) -> float:
    """Recall@20: of what was held out from a consumer (of 20 at most), the share in the 20 best. The mean."""
    someone = np.flatnonzero(np.diff(held_out.indptr))
    judged = np.random.default_rng([seed, 2]).permutation(someone)[:JUDGED]
    shares = []
    for chunk in np.array_split(judged, max(1, len(judged) // 500)):
        scores = consumers[chunk] @ producers.T
        scores[train[chunk].nonzero()] = -np.inf
        shown = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        hits = np.take_along_axis(held_out[chunk].toarray(), shown, axis=1).sum(axis=1)
        shares.append(hits / np.minimum(np.diff(held_out.indptr)[chunk], TOP))
    return float(np.concatenate(shares).mean())


def mllib_seconds(train: sp.csr_matrix, seed: int) -> float:
    """Wall seconds of one of MLlib's iterations."""
    from pyspark.ml.recommendation import ALS

    settings = load_settings().model_copy(
        update={"spark": SparkSettings(master="local[2]", driver_memory="4g")}
    )
    spark = spark_session(settings)
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
            started = time.perf_counter()
            model.fit(pairs)
            took[iterations] = time.perf_counter() - started
    spark.stop()
    return (took[3] - took[1]) / 2


def exact_error(train: sp.csr_matrix, seed: int) -> float:
    """The largest relative error of some producers, solved last, against NumPy's dense solves in float64."""
    cfg = replace(CFG, solver="exact", iterations=2, regularization=1.0, seed=seed)
    factors, columns = als(train, cfg, THREADS), train.T.tocsr()
    u = factors.consumers.astype(np.float64)
    dense = cfg.unobserved_weight * u.T @ u + cfg.regularization * np.eye(cfg.dim)
    errors = []
    for j in np.random.default_rng([seed, 3]).permutation(columns.shape[0])[:ROWS_SOLVED]:
        near = u[columns.indices[columns.indptr[j] : columns.indptr[j + 1]]]
        expected = np.linalg.solve(dense + near.T @ near, near.sum(axis=0))
        errors.append(
            np.linalg.norm(factors.producers[j] - expected) / max(np.linalg.norm(expected), 1e-30)
        )
    return float(max(errors))


if __name__ == "__main__":
    sys.exit(main())
