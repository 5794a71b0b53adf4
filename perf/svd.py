"""make bench-svd: the truncated SVD, k = 100, against scikit-learn and MLlib.

It is measured in process and as one Spark job. The matrix is 200,000 x 20,000 with some 5 M
non-zeros, once with a spectral gap after k (100 communities) and once without one (2,000). The runs
of a pair alternate, a ratio is of medians, and errors are against ARPACK. MLlib takes long and runs
once. Finally the largest matrix, 1,000,000 x 100,000 with 31 M non-zeros, in three densities of one
shape. SIZE=0.1 makes everything a tenth as large.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import tracemalloc
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import scipy.sparse as sp
from py4j.protocol import Py4JJavaError
from rich.progress import track
from scipy.sparse.linalg import svds
from sklearn.utils.extmath import randomized_svd

from embeddings.blocks import Block, save_block
from embeddings.embedders.svd import TOLERANCE, factors, leading, truncated_svd
from embeddings.kernels.communicator import run_threads
from embeddings.kernels.lanczos import capacity
from embeddings.kernels.normalize import normalize
from jobs.plots import figure
from jobs.settings import EmbeddingSettings, SparkSettings, load_settings
from jobs.spark.barrier import run_barrier
from jobs.spark.session import spark_session
from jobs.steps.embed import member
from perf.report import ROOT, Figure, arguments, finish
from perf.timing import seconds, timed

K = 100
THREADS = 2
ROUNDS = 5
WARM_UPS = 4  # barrier jobs before the first timed one: the JVM compiles what runs often
MLLIB_BAR = 50
MLLIB_LIMIT_S = 600
GAP = 100  # communities: as many as k, so that the spectrum has a gap after k
NO_GAP = 2000
PICTURE = ROOT / "docs" / "pictures" / "svd-convergence.png"


def main() -> int:
    options = arguments(__doc__, size="1")
    size = float(options.size)
    seed = options.seed
    gap = small_matrix("gap", GAP, 5.3e6, size, seed)
    no_gap = small_matrix("no gap", NO_GAP, 8e6, size, seed)
    normalized_gap = normalized(gap)
    normalized_no_gap = normalized(no_gap)
    figures = [
        *against_scikit_learn("gap", normalized_gap, seed, min_speedup=6, max_error=1e-4),
        memory(normalized_gap, seed),
        *on_spark(gap, seed),
        *against_scikit_learn("no gap", normalized_no_gap, seed, min_speedup=3, max_error=1e-3),
    ]
    curves = {
        "gap": convergence(normalized_gap, seed),
        "no gap": convergence(normalized_no_gap, seed),
    }
    draw(curves, PICTURE)
    figures += large(size, seed)
    return finish("svd", figures, seed)


# Matrices


def small_matrix(
    name: str, communities: int, events: float, size: float, seed: int
) -> sp.csr_matrix:
    """200,000 x 20,000 at size 1."""
    shape = (int(200_000 * size), int(20_000 * size))
    x = community_matrix(*shape, int(events * size), communities, seed)
    print(f"{name}: {x.shape[0]:,} x {x.shape[1]:,}, {x.nnz:,} non-zeros", flush=True)
    return x


def community_matrix(
    n: int, m: int, events: int, communities: int, seed: int, inside: float = 0.8
) -> sp.csr_matrix:
    """Counts of consumers who choose most producers inside their own community. Returns (n, m).

    A share `inside` of the choices is from the community, the rest from all producers; both by
    Zipf's law. Producers are numbered by popularity, as the step `matrix` does.
    """
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n, dtype=np.int32), rng.poisson(events / n, n))
    width = m // communities
    community = rng.integers(0, communities, n, dtype=np.int32)
    inner = community[rows] * width + zipf(width, len(rows), rng)
    is_inner = rng.random(len(rows)) < inside
    outer = rng.permutation(m)[zipf(m, len(rows), rng)]
    columns = np.where(is_inner, inner, outer).astype(np.int32)
    x = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(n, m))
    popularity = np.bincount(x.indices, minlength=m)
    rank = np.empty(m, np.int32)
    rank[np.argsort(-popularity, kind="stable")] = np.arange(m)
    renumbered = sp.csr_matrix((x.data, rank[x.indices], x.indptr), shape=x.shape)
    renumbered.sort_indices()
    return renumbered


def zipf(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers below n; the probability of r is proportional to (r + 1)^−0.8."""
    weights = np.cumsum(np.arange(1, n + 1) ** -0.8)
    return np.searchsorted(weights / weights[-1], rng.random(draws)).astype(np.int32)


def normalized(x: sp.csr_matrix) -> sp.csr_matrix:
    return normalize(x, dtype=np.float32)


# In process


def against_scikit_learn(
    name: str, x: sp.csr_matrix, seed: int, min_speedup: float, max_error: float
) -> list[Figure]:
    """Time and mean relative error of the singular values, both sides' vectors included."""
    true_sigma = svds(x.astype(np.float64), k=K, return_singular_vectors=False, random_state=seed)
    true_sigma = np.sort(true_sigma)[::-1]
    truncated_svd(x[:1000], K, threads=THREADS)  # compiles
    ours_s = []
    peer_s = []
    errors = []
    peer_errors = []
    for number in track(range(ROUNDS), f"{name}, against scikit-learn"):
        took_s, (sigma, v) = timed(partial(truncated_svd, x, K, seed + number, THREADS))
        # The left side is extra here, but part of what the peer returns.
        left_s = seconds(partial(factors, x, sigma, v))
        ours_s.append(took_s + left_s)
        errors.append(mean_relative_error(sigma, true_sigma))
        peer = partial(randomized_svd, x, K, n_iter="auto", random_state=seed + number)
        took_s, (_, sigma, _) = timed(peer)
        peer_s.append(took_s)
        peer_errors.append(mean_relative_error(sigma, true_sigma))
    return [
        Figure(
            f"{name}: SVD",
            median(peer_s),
            "s",
            peer="ours",
            peer_value=median(ours_s),
            bar=min_speedup,
            at_most=False,
            bar_on_ratio=True,
        ),
        Figure(
            f"{name}: mean relative error of σ",
            max(errors),
            "",
            peer="randomized_svd",
            peer_value=max(peer_errors),
            bar=max_error,
        ),
    ]


def mean_relative_error(sigma: np.ndarray, true_sigma: np.ndarray) -> float:
    return float(np.mean(np.abs(sigma - true_sigma) / true_sigma))


def convergence(x: sp.csr_matrix, seed: int) -> np.ndarray:
    """(checks, 2): the columns multiplied so far, and the largest residual of the k pairs then."""
    curve: list[tuple[int, float]] = []

    def note(n_columns: int, residuals: np.ndarray) -> None:
        curve.append((n_columns, residuals.max()))

    run_threads(1, lambda comm: leading(x, K, comm, seed, 1e-4, note))
    return np.array(curve)


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    """How the residual falls, with and without a gap after k."""
    title = f"Block Lanczos, k = {K}: the largest residual of the wanted pairs"
    with figure(path, title, (7, 4)) as axes:
        for name, curve in curves.items():
            axes.plot(*curve.T, marker=".", label=name)
        axes.axhline(
            TOLERANCE, color="grey", linestyle="--", linewidth=1, label="default tolerance"
        )
        axes.set(xlabel="columns multiplied by XᵀX", ylabel="‖XᵀXv − σ²v‖ / σ₁²", yscale="log")
        axes.legend()


def memory(x: sp.csr_matrix, seed: int) -> Figure:
    """The peak with the matrix included, against twice the matrix plus the basis."""
    matrix = x.data.nbytes + x.indices.nbytes + x.indptr.nbytes
    allowed = 2 * matrix + capacity(K) * x.shape[1] * 4
    tracemalloc.start()
    truncated_svd(x, K, seed, THREADS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Figure(
        "peak memory",
        (matrix + peak) / 2**20,
        "MiB",
        peer="2 x matrix + basis",
        peer_value=allowed / 2**20,
        bar=1.0,
        bar_on_ratio=True,
    )


# On Spark


def on_spark(x: sp.csr_matrix, seed: int) -> list[Figure]:
    """One barrier job, from blocks in a lake to written vectors, against the same in process.

    MLlib's computeSVD follows, in the same session.
    """
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as home:
        settings = load_settings().model_copy(
            update={"home": Path(home), "spark": SparkSettings(driver_memory="6g")}
        )
        spark = spark_session(settings)
        matrix = Path(home) / "matrix"
        write_blocks(matrix, x)
        options = {"dim": K, "seed": seed, "svd": {"smoothing": 0.0}}
        cfg = EmbeddingSettings.model_validate(options)

        def job() -> None:
            with tempfile.TemporaryDirectory(dir=home) as out:
                (Path(out) / "consumers").mkdir()
                run_barrier(spark, settings, member(str(matrix), out, cfg))

        def in_process() -> None:
            x_normalized = normalized(x)
            sigma, v = truncated_svd(x_normalized, K, seed, THREADS, cfg.options.tolerance)
            np.save(Path(home) / "consumers.npy", factors(x_normalized, sigma, v).consumers)

        for _ in range(WARM_UPS):
            job()
        # Alternating, so that a busy machine slows down both.
        job_times = []
        in_process_times = []
        for _ in track(range(4 * ROUNDS), "Spark against in process"):
            job_times.append(seconds(job))
            in_process_times.append(seconds(in_process))
        job_s = median(job_times)
        in_jvm_s = mllib_seconds(spark, normalized(x), in_jvm=True, limit_s=MLLIB_LIMIT_S)
        twice_the_bar_s = 2 * MLLIB_BAR * job_s
        pickled_s = mllib_seconds(spark, normalized(x), in_jvm=False, limit_s=twice_the_bar_s)
        spark.stop()
    return [
        Figure(
            "one barrier job",
            job_s,
            "s",
            peer="in process",
            peer_value=median(in_process_times),
            bar=1.3,
            bar_on_ratio=True,
        ),
        mllib_figure("MLlib computeSVD, rows in the JVM", in_jvm_s, job_s),
        mllib_figure(
            "MLlib computeSVD, rows cached by PySpark; stopped at twice the bar", pickled_s, job_s
        ),
    ]


def mllib_figure(name: str, took_s: float, job_s: float) -> Figure:
    return Figure(
        name,
        took_s,
        "s",
        peer="our barrier job",
        peer_value=job_s,
        bar=MLLIB_BAR,
        at_most=False,
        bar_on_ratio=True,
    )


def write_blocks(home: Path, x: sp.csr_matrix) -> None:
    """The matrix in two blocks, in the layout of the step `matrix`."""
    home.mkdir()
    np.save(home / "column_sums.npy", np.asarray(x.sum(axis=0), np.float64).ravel())
    for number, rows in enumerate(np.array_split(np.arange(x.shape[0]), 2)):
        part = x[rows[0] : rows[-1] + 1]
        block = Block(
            ids=np.array([b"%08d" % row for row in rows]),
            engagements=np.diff(part.indptr).astype(np.int32),
            indptr=part.indptr.astype(np.int64),
            indices=part.indices,
            strengths=part.data.astype(np.float64),
        )
        save_block(home / "fitted" / f"block-{number:05d}", block)


def mllib_seconds(spark, x: sp.csr_matrix, in_jvm: bool, limit_s: float) -> float:
    """RowMatrix.computeSVD without U; `limit_s` if it takes longer.

    in_jvm: cache the rows as vectors of the JVM, which PySpark's API does not offer. PySpark's own
    `cache()` keeps pickles, which every pass unpacks again.
    """
    from pyspark.mllib.linalg import Vectors
    from pyspark.mllib.linalg.distributed import RowMatrix

    def rows(part: int):
        for i in range(part, x.shape[0], THREADS):
            entries = slice(x.indptr[i], x.indptr[i + 1])
            yield Vectors.sparse(x.shape[1], x.indices[entries].tolist(), x.data[entries].tolist())

    vectors = spark.sparkContext.parallelize(range(THREADS), THREADS).flatMap(rows)
    if not in_jvm:
        vectors.cache().count()
    matrix = RowMatrix(vectors, x.shape[0], x.shape[1])
    if in_jvm:
        matrix._java_matrix_wrapper._java_model.rows().cache().count()
    is_late = threading.Event()

    def cancel() -> None:
        is_late.set()
        spark.sparkContext.cancelAllJobs()

    timer = threading.Timer(limit_s, cancel)
    timer.start()
    try:
        return seconds(partial(matrix.computeSVD, K, computeU=False, rCond=1e-9))
    except Py4JJavaError:
        if is_late.is_set():
            return limit_s
        raise
    finally:
        timer.cancel()


# The largest matrix


def large(size: float, seed: int) -> list[Figure]:
    """Seconds with a quarter, a half and all of 31 M non-zeros, in one shape."""
    shape = (int(1e6 * size), int(1e5 * size))
    figures = []
    times_s = []
    non_zeros = []
    for share in track((0.25, 0.5, 1.0), "1,000,000 x 100,000"):
        x = normalized(community_matrix(*shape, int(34e6 * size * share), GAP, seed))
        took_s = seconds(partial(truncated_svd, x, K, seed, THREADS))
        figures.append(Figure(f"{x.nnz / 1e6:.1f} M non-zeros", took_s, "s"))
        times_s.append(took_s)
        non_zeros.append(x.nnz)
    growth = (times_s[-1] / times_s[0]) / (non_zeros[-1] / non_zeros[0])
    figures.append(Figure("growth of time / growth of non-zeros", growth, "", bar=1.0))
    return figures


if __name__ == "__main__":
    sys.exit(main())
