"""make bench-foldin: vectors of new users by the exact ALS row solve and by the SVD's product, k = 64.

20 interactions a user among 20,000 producers, popular ones more often. Batches run on one core; the throughput is users
per second of CPU, medians of runs in turn with the peer's: `implicit`'s exact recalculation of a whole batch, and
SciPy's sparse product of strengths that are normalised already. Online is one user at a time, history to vector, with
the BLAS threads a process has by default. SIZE=0.1 takes a tenth of the users.
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

K, PRODUCERS, INTERACTIONS, USERS, ONLINE_USERS, ROUNDS = 64, 20_000, 20, 50_000, 5000, 7
CFG = ALSConfig(dim=K)


def main() -> int:
    chosen = arguments(__doc__, size="1")
    n_users = int(USERS * float(chosen.size))
    return finish(
        "foldin",
        [*in_process(chosen.seed, n_users), on_spark(chosen.seed, 10 * n_users)],
        chosen.seed,
    )


def in_process(seed: int, n_users: int) -> list[Figure]:
    """Throughput of batches beside the peers, time of single requests, and the error of the exact solve."""
    rng = np.random.default_rng(seed)
    producers = (0.3 * rng.standard_normal((PRODUCERS, K))).astype(np.float32)
    x = histories(n_users, rng)
    by_als, by_svd = als_fold_in(producers), SVDFoldIn(producers, np.asarray(x.sum(axis=0)).ravel())
    als, als_peer = users_per_core_s(x, by_als.fold, implicit_fold(producers))
    normalized = normalize(x, by_svd.column_sums).astype(np.float32)
    svd, svd_peer = users_per_core_s(x, by_svd.fold, lambda _: normalized @ producers)
    return [
        Figure(
            "ALS exact, batch", als, "users/core-s", "implicit", als_peer, 100_000, at_most=False
        ),
        Figure(
            "SVD, batch", svd, "users/core-s", "SciPy's product", svd_peer, 1_300_000, at_most=False
        ),
        Figure("ALS, one user online, p99", p99_ms(x, by_als), "ms", bar=1.0),
        Figure("SVD, one user online, p99", p99_ms(x, by_svd), "ms", bar=1.0),
        Figure("ALS: error against dense solves", dense_error(x, producers, by_als), "", bar=1e-5),
    ]


def on_spark(seed: int, n_users: int) -> Figure:
    """The whole step, its partition committed: see foldin_spark."""
    rng = np.random.default_rng(seed)
    x = histories(n_users, rng)
    producers = (0.3 * rng.standard_normal((PRODUCERS, K))).astype(np.float32)
    return end_to_end(x, SVDFoldIn(producers, np.asarray(x.sum(axis=0)).ravel()))


def histories(n_users: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Users with 20 interactions each, strengths 1 to 4; a producer's chance falls with its number."""
    drawn = np.floor(rng.random((n_users, INTERACTIONS)) ** 2 * PRODUCERS).astype(np.int32)
    strengths = rng.integers(1, 5, drawn.size).astype(np.float64)
    indptr = np.arange(n_users + 1) * INTERACTIONS
    x = sp.csr_matrix((strengths, drawn.ravel(), indptr), shape=(n_users, PRODUCERS))
    x.sum_duplicates()  # some then have 19
    return x


def als_fold_in(producers: np.ndarray) -> ALSFoldIn:
    gram = producers.T.astype(np.float64) @ producers
    nobody, nothing = np.empty((0, K), np.float32), np.empty(0)
    return ALSFoldIn.of(ALSFactors(nobody, producers, gram, nothing), CFG)


def implicit_fold(producers: np.ndarray) -> Callable[[sp.csr_matrix], np.ndarray]:
    """The peer's exact solve of a batch. Its penalty and its weights are other numbers, its work is the same."""
    with threadpool_limits(1, "blas"):  # it warns where BLAS has more
        model = AlternatingLeastSquares(factors=K, regularization=1.0, num_threads=1)
    model.item_factors, model.user_factors = producers, np.zeros((1, K), np.float32)
    return lambda x: model.recalculate_user(np.arange(x.shape[0]), x)


def users_per_core_s(
    x: sp.csr_matrix,
    ours: Callable[[sp.csr_matrix], np.ndarray],
    peer: Callable[[sp.csr_matrix], np.ndarray],
) -> tuple[float, float]:
    """Medians over runs in turn, on one core."""
    rates: tuple[list[float], list[float]] = ([], [])
    with threadpool_limits(1):
        ours(x[:1])  # compiled
        for _ in track(range(ROUNDS), "batches"):
            for fold, found in zip((ours, peer), rates, strict=True):
                started = time.thread_time()
                fold(x)
                found.append(x.shape[0] / (time.thread_time() - started))
    return median(rates[0]), median(rates[1])


def p99_ms(x: sp.csr_matrix, folding: FoldIn) -> float:
    """The 99th percentile of single requests: a producer row and a strength for each interaction in, a vector out."""
    took = []
    for user in track(range(min(ONLINE_USERS, x.shape[0])), "one by one"):
        mine = slice(x.indptr[user], x.indptr[user + 1])
        rows, strengths = x.indices[mine].copy(), x.data[mine].copy()
        started = time.perf_counter()
        folding.fold(sp.csr_matrix((strengths, rows, [0, len(rows)]), shape=(1, PRODUCERS)))
        took.append(time.perf_counter() - started)
    return float(np.percentile(took, 99) * 1000)


def dense_error(x: sp.csr_matrix, producers: np.ndarray, folding: ALSFoldIn) -> float:
    """The largest relative error of 200 users against NumPy's dense solves in float64."""
    v = producers.astype(np.float64)
    errors = []
    for user, found in enumerate(folding.fold(x[:200])):
        near = v[x[user].indices]
        penalty = CFG.regularization * (len(near) + CFG.unobserved_weight * PRODUCERS)
        system = (
            CFG.unobserved_weight * v.T @ v + (near.T * x[user].data) @ near + penalty * np.eye(K)
        )
        expected = np.linalg.solve(system, near.T @ x[user].data)
        errors.append(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return float(max(errors))


if __name__ == "__main__":
    sys.exit(main())
