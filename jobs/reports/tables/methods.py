"""The methods of the tables. Every embedder on the seam is one of them, without being named here.

A method is tuned: of some candidates, the one with the best NDCG@20 on the last part of the
window, fitted on what is before it. What has no retrieval, or nothing to tune, is taken as it is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from embeddings.baselines import Scorer
from embeddings.baselines.deepwalk import deepwalk
from embeddings.baselines.ease import ease
from embeddings.baselines.item_item import item_item
from embeddings.baselines.lightgcn import Options as LightGCN
from embeddings.baselines.lightgcn import lightgcn
from embeddings.baselines.popularity import popularity
from embeddings.baselines.sansa import sansa
from embeddings.baselines.simplex import Options as SimpleX
from embeddings.baselines.simplex import simplex
from embeddings.blocks import Block, MatrixShare, save_block
from embeddings.embedders import base
from embeddings.embedders.base import Fitted, embedder
from embeddings.embedders.svd import factorize
from embeddings.fold_in.base import FoldIn
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.communicator import Communicator, run_threads
from embeddings.kernels.normalize import normalize, smoothed
from embeddings.sampling import noise
from jobs.reports.methods import THREADS
from jobs.reports.tables.problem import Input

DIM = 32  # numbers of a vector, of every method that has vectors
RANDOM, POPULARITY = "random", "popularity"
SMOOTHINGS = (1.0, 0.0, 0.3, 3.0, 10.0)  # of an SVD
WINDOWS = (5, 1, 3)  # of DeepWalk
PENALTIES = (100, 0.01, 0.03, 0.1, 0.3, 1, 10, 30, 300, 1000, 3000, 10_000)  # EASE, SANSA
NEAREST = 50  # producers in a row of SANSA's factor
LAYERS, LENGTHS = (2, 1, 3), (1e-3, 1e-4, 1e-2, 1e-1)  # of LightGCN: its layers and its λ
PUSHES, OWN = (10.0, 3.0, 30.0, 100.0), (0.5, 0.0, 1.0)  # of SimpleX: its w and its g


@dataclass(frozen=True)
class Learned:
    """What a method has learned.

    scores: rows of consumers, (r,) -> (r, m), a higher one comes first; None where it has none of
    producers. consumers: (n, k), producers: (m, k), None where it has no vectors. seconds: of CPU.
    scales: (m,), the factor of each producer's products; 1 where all have the same.
    """

    scores: Callable[[np.ndarray], np.ndarray] | None
    consumers: np.ndarray | None = None
    producers: np.ndarray | None = None
    seconds: float = 0.0
    scales: np.ndarray | float = 1.0


@dataclass(frozen=True)
class Method:
    """One candidate. options: what it is tuned to, in words.

    seeded: does chance play a part? Not where it only chooses where a solver begins.
    """

    fit: Callable[[Input, int], Learned]
    options: str = ""
    seeded: bool = True

    def timed(self, data: Input, seed: int) -> Learned:
        """The fit with its CPU time, on THREADS threads."""
        with threadpool_limits(THREADS):
            started = time.process_time()
            learned = self.fit(data, seed)
            seconds = time.process_time() - started
        return replace(learned, seconds=seconds)


def families(data: Input) -> dict[str, list[Method]]:
    """The candidates of every method that the data allow, by its name; the default one first."""
    found = {
        RANDOM: [Method(random_vectors)],
        POPULARITY: [Method(by_activity, seeded=False)],
    }
    for name in base.names():
        found[name] = embedder_candidates(name)
    found["deepwalk"] = walkers()
    found["lightgcn"] = graph_candidates()
    found["simplex"] = cosine_candidates()
    if data.follows is not None:
        found["follow svd"] = [follow_svd(smoothing) for smoothing in SMOOTHINGS]
        found["follow deepwalk"] = walkers(on_follows=True)
    found["item-item"] = [Method(scoring(item_item), seeded=False)]
    found["ease"] = [ridge(ease, penalty) for penalty in PENALTIES]
    found["sansa"] = [ridge(sparse_ease, penalty) for penalty in PENALTIES]
    return found


# Without vectors, or with vectors that know nothing


def random_vectors(data: Input, seed: int) -> Learned:
    """Vectors that depend on the ids and the seed alone."""
    consumers = noise(data.consumer_ids, DIM, seed)
    producers = noise(data.producer_ids, DIM, seed)
    return Learned(lambda rows: consumers[rows] @ producers.T, consumers, producers)


def by_activity(data: Input, seed: int) -> Learned:
    """Popularity; its vectors know of everyone only how active they are."""
    consumers = np.log1p(np.diff(data.x.indptr))
    counts = np.bincount(data.x.indices, minlength=data.x.shape[1])
    score = popularity(data.x)
    return Learned(
        lambda rows: score(data.x[rows]),
        np.column_stack([np.ones_like(consumers), consumers]).astype(np.float32),
        np.column_stack([np.log1p(counts), np.zeros(len(counts))]).astype(np.float32),
    )


def scoring(fit: Callable[[sp.csr_matrix], Scorer]) -> Callable[[Input, int], Learned]:
    """The fit of a baseline without vectors."""

    def learn(data: Input, seed: int) -> Learned:
        score = fit(data.x)
        return Learned(lambda rows: popular_if_new(score(data.x[rows]), data.x, rows))

    return learn


def popular_if_new(scores: np.ndarray, x: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """The scores, where consumers without a history are shown what is popular."""
    unknown = np.diff(x.indptr)[rows] == 0
    scores[unknown] = np.bincount(x.indices, minlength=x.shape[1])
    return scores


def ridge(of: Callable[[sp.csr_matrix, float], Scorer], penalty: float) -> Method:
    """EASE, or SANSA. penalty: in units of the mean squared strength, so that it suits all."""

    def fit(x: sp.csr_matrix) -> Scorer:
        return of(x, penalty * float(np.mean(x.data**2)))

    return Method(scoring(fit), f"λ {penalty:g}", seeded=False)


def sparse_ease(x: sp.csr_matrix, penalty: float) -> Scorer:
    """SANSA with rows of one length on every data set."""
    return sansa(x, penalty, NEAREST)


# Vectors


def by_products(
    data: Input, consumers: np.ndarray, producers: np.ndarray, scales: np.ndarray | float = 1.0
) -> Learned:
    """Scores are products of vectors, times a factor for each producer. scales: (m,)."""
    targets = (producers * np.reshape(scales, (-1, 1))).astype(np.float32)

    def scores(rows: np.ndarray) -> np.ndarray:
        return popular_if_new(consumers[rows] @ targets.T, data.x, rows)

    return Learned(scores, consumers, producers, scales=scales)


def walkers(on_follows: bool = False) -> list[Method]:
    """DeepWalk on the engagements, or on who follows whom."""
    found = []
    for window, popular in product(WINDOWS, (False, True)):
        found.append(walker(window, popular, on_follows))
    return found


def walker(window: int, popular: bool, on_follows: bool) -> Method:
    """popular: rank by log P(producer | consumer) instead of the products of vectors alone."""

    def fit(data: Input, seed: int) -> Learned:
        x = data.follows if on_follows else data.x
        assert x is not None, "families() has it only where there are follows"
        factors = deepwalk(x, DIM, window, seed, threads=THREADS)
        if on_follows and not data.to_producers:
            return Learned(None, factors.consumers)
        if not popular:
            return by_products(data, factors.consumers, factors.producers)
        return by_walks(data, x, factors.consumers, factors.producers)

    words = f"window {window}, popularity" if popular else f"window {window}"
    return Method(fit, words, seeded=False)


def by_walks(
    data: Input, x: sp.csr_matrix, consumers: np.ndarray, producers: np.ndarray
) -> Learned:
    """Scores are log P(producer | consumer): a product is log P(j | i) / P(j), so P(j) is added."""
    passes = np.asarray(x.sum(axis=0)).ravel()
    least = passes[passes > 0].min()  # also for those whom no walk meets
    known = np.log(np.maximum(passes, least) / passes.sum()).astype(np.float32)

    def scores(rows: np.ndarray) -> np.ndarray:
        return popular_if_new(consumers[rows] @ producers.T + known, data.x, rows)

    return Learned(scores, consumers, producers)


def graph_candidates() -> list[Method]:
    """LightGCN."""
    found = []
    for layers, length in product(LAYERS, LENGTHS):
        options = LightGCN(layers=layers, regularization=length)
        words = f"layers {layers}, λ {length:g}"
        found.append(Method(trained(partial(lightgcn, options=options)), words))
    return found


def cosine_candidates() -> list[Method]:
    """SimpleX."""
    found = []
    for weight, own in product(PUSHES, OWN):
        options = SimpleX(weight=weight, own=own)
        words = f"w {weight:g}, g {own:g}"
        found.append(Method(trained(partial(simplex, options=options)), words))
    return found


def trained(
    fit: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> Callable[[Input, int], Learned]:
    """The fit of a baseline with vectors, whose products are the scores."""

    def learn(data: Input, seed: int) -> Learned:
        return by_products(data, *fit(data.x, DIM, seed=seed))

    return learn


def follow_svd(smoothing: float) -> Method:
    """The SVD of who follows whom, as Shiebler et al. 2018 describe it."""

    def fit(data: Input, seed: int) -> Learned:
        assert data.follows is not None, "families() has it only where there are follows"
        sums = np.asarray(data.follows.sum(axis=0), np.float64).ravel()
        n_active = int(np.count_nonzero(np.diff(data.follows.indptr)))
        sums, row_extra = smoothed(sums, n_active, smoothing)
        factors = factorize(normalize(data.follows, sums, row_extra), DIM, seed, THREADS)
        if not data.to_producers:
            return Learned(None, factors.consumers)
        return by_products(data, factors.consumers, factors.producers, np.sqrt(sums))

    return Method(fit, f"smoothing {smoothing:g}", seeded=False)


# Embedders on the seam


GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "svd": {"smoothing": SMOOTHINGS},
    "als": {
        "unobserved_weight": (0.1, 0.01, 0.03, 0.3, 1.0, 3.0, 10.0),
        "regularization": (0.003, 0.0003, 0.001, 0.01, 0.03, 0.1),
    },
}  # any other embedder has its defaults


def embedder_candidates(name: str) -> list[Method]:
    """An embedder with each combination of its grid."""
    grid = GRIDS.get(name, {})
    found = []
    for values in product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        words = ", ".join(f"{option} {value:g}" for option, value in options.items())
        found.append(Method(OnTheSeam(name, options), words))
    return found


@dataclass(frozen=True)
class OnTheSeam:
    """An embedder by its name, on threads of this process as it would run on Spark."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dim: int = DIM

    def __call__(self, data: Input, seed: int) -> Learned:
        """Fitted on the consumers and producers with engagements; of the others vectors are 0."""
        rows = np.flatnonzero(np.diff(data.x.indptr))
        columns = np.flatnonzero(np.bincount(data.x.indices, minlength=data.x.shape[1]))
        fitted_part = data.x[rows][:, columns]
        with tempfile.TemporaryDirectory() as folder:
            write_matrix(
                Path(folder), fitted_part, data.consumer_ids[rows], data.producer_ids[columns]
            )
            shares = run_threads(THREADS, lambda comm: self.fit(Path(folder), comm, seed))
        own = np.concatenate([share.consumers for share in shares])
        consumers = spread(own, rows, data.x.shape[0])
        producers = spread(shares[0].producers, columns, data.x.shape[1])
        scales = spread(strength_factors(shares[0].fold_in), columns, data.x.shape[1])
        return by_products(data, consumers, producers, scales)

    def fit(self, folder: Path, comm: Communicator, seed: int) -> Fitted:
        options = import_module(f"embeddings.embedders.{self.name}").Options(**self.options)
        share = MatrixShare(folder, comm)
        return embedder(self.name).fit(share, self.dim, seed, options, lambda line: None)


def spread(values: np.ndarray, rows: np.ndarray, total: int) -> np.ndarray:
    """The values in these rows of `total`, zeros in the others."""
    whole = np.zeros((total, *values.shape[1:]), values.dtype)
    whole[rows] = values
    return whole


def strength_factors(fold_in: FoldIn) -> np.ndarray:
    """(m,), the factors that turn a product of vectors into the expected strength.

    An SVD approximates normalised strengths: of the products of one consumer, that of a popular
    producer is smaller than its expected strength.
    """
    if isinstance(fold_in, SVDFoldIn):
        return np.sqrt(fold_in.column_sums)
    return np.ones(fold_in.n_producers)


def write_matrix(
    folder: Path, x: sp.csr_matrix, consumer_ids: np.ndarray, producer_ids: np.ndarray
) -> None:
    """The matrix as the step `matrix` commits it, in one block per thread."""
    bounds = len(consumer_ids) * np.arange(THREADS + 1) // THREADS
    for number in range(THREADS):
        part = slice(bounds[number], bounds[number + 1])
        rows = x[part]
        block = Block(
            ids=consumer_ids[part],
            engagements=np.diff(rows.indptr).astype(np.int32),
            indptr=rows.indptr.astype(np.int64),
            indices=rows.indices.astype(np.int32),
            strengths=rows.data.astype(np.float64),
        )
        save_block(folder / "fitted" / f"block-{number:05d}", block)
    np.save(folder / "producers.npy", producer_ids)
    np.save(folder / "column_sums.npy", np.asarray(x.sum(axis=0), np.float64).ravel())
