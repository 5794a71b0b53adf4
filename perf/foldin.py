"""make bench-foldin: vectors of new users by the exact ALS row solve and by the SVD's product.

k = 64, and 20 interactions per user with 20,000 producers, popular ones more often. Batches run on
one core. The throughput is users per second of CPU, medians of runs that alternate with the peer's:
`implicit`'s exact recalculation of a whole batch, and SciPy's sparse product of strengths that are
already normalised. Online means one user at a time, from history to vector, with the BLAS threads
that a process has by default. SIZE=0.1 takes a tenth of the users.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from rich.progress import track
from threadpoolctl import threadpool_limits

from embeddings.embedders.als import ALSConfig, ALSFactors
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.base import FoldIn
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.normalize import normalize
from perf.foldin_spark import end_to_end
from perf.report import Figure, arguments, finish

K = 64
N_PRODUCERS = 20_000
N_INTERACTIONS = 20  # per user
N_USERS = 50_000
N_ONLINE_USERS = 5000
ROUNDS = 7
CFG = ALSConfig(dim=K, iterations=16)


def main() -> int:
    options = arguments(__doc__, size="1")
    n_users = int(N_USERS * float(options.size))
    figures = in_process(options.seed, n_users)
    figures.append(on_spark(options.seed, 10 * n_users))
    return finish("foldin", figures, options.seed)


def in_process(seed: int, n_users: int) -> list[Figure]:
    """Throughput of batches against the peers, latency online, and the error of the exact solve."""
    rng = np.random.default_rng(seed)
    producers = random_producers(rng)
    x = histories(n_users, rng)
    als = als_fold_in(producers)
    svd = SVDFoldIn(producers, np.asarray(x.sum(axis=0)).ravel())
    als_rate, implicit_rate = users_per_core_s(x, als.fold, implicit_fold(producers))
    normalized = normalize(x, svd.column_sums).astype(np.float32)
    svd_rate, scipy_rate = users_per_core_s(x, svd.fold, lambda _: normalized @ producers)
    return [
        Figure(
            "ALS exact, batch",
            als_rate,
            "users/core-s",
            peer="implicit",
            peer_value=implicit_rate,
            bar=100_000,
            at_most=False,
        ),
        Figure(
            "SVD, batch",
            svd_rate,
            "users/core-s",
            peer="SciPy's product",
            peer_value=scipy_rate,
            bar=1_300_000,
            at_most=False,
        ),
        Figure("ALS, one user online, p99", p99_ms(x, als), "ms", bar=1.0),
        Figure("SVD, one user online, p99", p99_ms(x, svd), "ms", bar=1.0),
        Figure("ALS: error against dense solves", dense_error(x, producers, als), "", bar=1e-5),
    ]


def on_spark(seed: int, n_users: int) -> Figure:
    """The whole step until its partition is committed: see foldin_spark."""
    rng = np.random.default_rng(seed)
    x = histories(n_users, rng)
    producers = random_producers(rng)
    return end_to_end(x, SVDFoldIn(producers, np.asarray(x.sum(axis=0)).ravel()))


def random_producers(rng: np.random.Generator) -> np.ndarray:
    """(N_PRODUCERS, K) float32."""
    return (0.3 * rng.standard_normal((N_PRODUCERS, K))).astype(np.float32)


def histories(n_users: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Users with 20 interactions each, strengths 1 to 4; producers with low numbers are popular."""
    drawn = np.floor(rng.random((n_users, N_INTERACTIONS)) ** 2 * N_PRODUCERS).astype(np.int32)
    strengths = rng.integers(1, 5, drawn.size).astype(np.float64)
    indptr = np.arange(n_users + 1) * N_INTERACTIONS
    x = sp.csr_matrix((strengths, drawn.ravel(), indptr), shape=(n_users, N_PRODUCERS))
    x.sum_duplicates()  # a few users have 19 afterwards
    return x


def als_fold_in(producers: np.ndarray) -> ALSFoldIn:
    gram = producers.T.astype(np.float64) @ producers
    no_consumers = np.empty((0, K), np.float32)
    return ALSFoldIn.of(ALSFactors(no_consumers, producers, gram, np.empty(0)), CFG)


def implicit_fold(producers: np.ndarray) -> Callable[[sp.csr_matrix], np.ndarray]:
    """The peer's exact solve of a batch: other weights and penalties, but the same work."""
    with threadpool_limits(1, "blas"):  # it warns if BLAS has more
        model = AlternatingLeastSquares(factors=K, regularization=1.0, num_threads=1)
    model.item_factors = producers
    model.user_factors = np.zeros((1, K), np.float32)
    return lambda x: model.recalculate_user(np.arange(x.shape[0]), x)


def users_per_core_s(
    x: sp.csr_matrix,
    ours: Callable[[sp.csr_matrix], np.ndarray],
    peer: Callable[[sp.csr_matrix], np.ndarray],
) -> tuple[float, float]:
    """Median rates of ours and of the peer, in alternating runs on one core."""
    rates: tuple[list[float], list[float]] = ([], [])
    with threadpool_limits(1):
        ours(x[:1])  # compiles
        for _ in track(range(ROUNDS), "batches"):
            for fold, measured in zip((ours, peer), rates, strict=True):
                started = time.thread_time()
                fold(x)
                measured.append(x.shape[0] / (time.thread_time() - started))
    return median(rates[0]), median(rates[1])


def p99_ms(x: sp.csr_matrix, fold_in: FoldIn) -> float:
    """The 99th percentile of single requests, from producer rows and strengths to a vector."""
    took_s = []
    for user in track(range(min(N_ONLINE_USERS, x.shape[0])), "one by one"):
        entries = slice(x.indptr[user], x.indptr[user + 1])
        # Copies, as a request has its own arrays.
        rows = x.indices[entries].copy()
        strengths = x.data[entries].copy()
        started = time.perf_counter()
        fold_in.fold(sp.csr_matrix((strengths, rows, [0, len(rows)]), shape=(1, N_PRODUCERS)))
        took_s.append(time.perf_counter() - started)
    return float(np.percentile(took_s, 99) * 1000)


def dense_error(x: sp.csr_matrix, producers: np.ndarray, fold_in: ALSFoldIn) -> float:
    """The largest relative error of 200 users against dense float64 solves in NumPy."""
    v = producers.astype(np.float64)
    unobserved = CFG.unobserved_weight * v.T @ v
    errors = []
    for user, folded in enumerate(fold_in.fold(x[:200])):
        engaged = v[x[user].indices]
        strengths = x[user].data
        penalty = CFG.regularization * (len(engaged) + CFG.unobserved_weight * N_PRODUCERS)
        system = unobserved + (engaged.T * strengths) @ engaged + penalty * np.eye(K)
        expected = np.linalg.solve(system, engaged.T @ strengths)
        errors.append(np.linalg.norm(folded - expected) / np.linalg.norm(expected))
    return float(max(errors))


if __name__ == "__main__":
    sys.exit(main())
