"""make bench-svd: the truncated SVD, k = 100, against scikit-learn and MLlib, in process and as one Spark job.

The matrix has 200,000 x 20,000 and some 5 M non-zeros, once with a spectral gap after k (100 communities) and once
without one (2,000). Times of one pair are interleaved, the ratio is of medians; errors are against ARPACK. MLlib takes
long and runs once. Then the largest matrix, 1,000,000 x 100,000 with 31 M non-zeros, in three sizes of one shape.
SIZE=0.1 makes everything a tenth as large.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import scipy.sparse as sp
from py4j.protocol import Py4JJavaError
from rich.progress import track
from scipy.sparse.linalg import svds
from sklearn.utils.extmath import randomized_svd

from embeddings.blocks import Block, save_block
from embeddings.embedders.svd import TOLERANCE, basis_size, factors, leading, truncated_svd
from embeddings.kernels.communicator import together
from embeddings.kernels.normalize import normalize
from jobs.plots import figure
from jobs.settings import EmbeddingSettings, SparkSettings, load_settings
from jobs.spark.barrier import run_together
from jobs.spark.session import spark_session
from jobs.steps.embed import svd_member
from perf.report import ROOT, Figure, arguments, finish

K, THREADS, ROUNDS = 100, 2, 5
WARM = 4  # barrier jobs before the first that counts: the JVM compiles what it runs often
MLLIB_BAR = 50
GAP, NO_GAP = 100, 2000  # communities


def main() -> int:
    chosen = arguments(__doc__, size="1")
    size, seed = float(chosen.size), chosen.seed
    figures, curves = [], {}
    for name, communities, events, bars in (
        ("gap", GAP, 5.3e6, (6, 1e-4)),
        ("no gap", NO_GAP, 8e6, (3, 1e-3)),
    ):
        x = community_matrix(
            int(200_000 * size), int(20_000 * size), int(events * size), communities, seed
        )
        print(f"{name}: {x.shape[0]:,} x {x.shape[1]:,}, {x.nnz:,} non-zeros", flush=True)
        figures += beside_scikit_learn(name, normalized(x), seed, *bars)
        curves[name] = convergence(normalized(x), seed)
        if name == "gap":
            figures += [memory(normalized(x), seed), *on_spark(x, seed, size)]
    draw(curves, ROOT / "docs" / "pictures" / "svd-convergence.png")
    figures += large(size, seed)
    return finish("svd", figures, seed)


# Matrices


def community_matrix(
    n: int, m: int, events: int, communities: int, seed: int, inside: float = 0.8
) -> sp.csr_matrix:
    """Counts of consumers who take 4 of 5 producers from their own community, the others from all; both by Zipf's law.

    Producers are numbered by popularity, as the step `matrix` does.
    """
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n, dtype=np.int32), rng.poisson(events / n, n))
    width = m // communities
    at_home = rng.integers(0, communities, n, dtype=np.int32)[rows] * width + zipf(
        width, len(rows), rng
    )
    columns = np.where(
        rng.random(len(rows)) < inside, at_home, rng.permutation(m)[zipf(m, len(rows), rng)]
    )
    x = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, columns.astype(np.int32))), shape=(n, m)
    )
    popularity = np.bincount(x.indices, minlength=m)
    rank = np.empty(m, np.int32)
    rank[np.argsort(-popularity, kind="stable")] = np.arange(m)
    relabelled = sp.csr_matrix((x.data, rank[x.indices], x.indptr), shape=x.shape)
    relabelled.sort_indices()
    return relabelled


def zipf(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers below n, number r with a probability in proportion to (r + 1)^-0.8."""
    weights = np.cumsum(np.arange(1, n + 1) ** -0.8)
    return np.searchsorted(weights / weights[-1], rng.random(draws)).astype(np.int32)


def normalized(x: sp.csr_matrix) -> sp.csr_matrix:
    return normalize(x, dtype=np.float32)


# Measurements


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def beside_scikit_learn(
    name: str, x: sp.csr_matrix, seed: int, speedup: float, error: float
) -> list[Figure]:
    truth = np.sort(
        svds(x.astype(np.float64), k=K, return_singular_vectors=False, random_state=seed)
    )[::-1]
    truncated_svd(x[:1000], K, threads=THREADS)  # compiled
    ours, theirs, errors, peer_errors = [], [], [], []
    for round_ in track(range(ROUNDS), f"{name}, beside scikit-learn"):
        took, (sigma, v) = seconds(lambda: truncated_svd(x, K, seed + round_, THREADS))  # noqa: B023
        more, _ = seconds(lambda: factors(x, sigma, v))  # noqa: B023  # the left side, which the peer returns as well
        ours.append(took + more)
        errors.append(float(np.mean(np.abs(sigma - truth) / truth)))
        took, (_, sigma, _) = seconds(
            lambda: randomized_svd(x, K, n_iter="auto", random_state=seed + round_)
        )
        theirs.append(took)
        peer_errors.append(float(np.mean(np.abs(sigma - truth) / truth)))
    return [
        Figure(
            f"{name}: SVD",
            median(theirs),
            "s",
            "ours",
            median(ours),
            speedup,
            at_most=False,
            bar_on_ratio=True,
        ),
        Figure(
            f"{name}: mean relative error of σ",
            max(errors),
            "",
            "randomized_svd",
            max(peer_errors),
            error,
        ),
    ]


def convergence(x: sp.csr_matrix, seed: int) -> np.ndarray:
    """(looks, 2): columns multiplied so far, and the largest residual among the k pairs then."""
    curve: list[tuple[int, float]] = []
    together(
        1,
        lambda group: leading(
            x, K, group, seed, 1e-4, lambda n, left: curve.append((n, left.max()))
        ),
    )
    return np.array(curve)


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    """How the residual falls, with and without a gap after k."""
    with figure(
        path, f"Block Lanczos, k = {K}: the largest residual of the wanted pairs", (7, 4)
    ) as axes:
        for name, curve in curves.items():
            axes.plot(*curve.T, marker=".", label=name)
        axes.axhline(
            TOLERANCE, color="grey", linestyle="--", linewidth=1, label="default tolerance"
        )
        axes.set(xlabel="columns multiplied by XᵀX", ylabel="‖XᵀXv − σ²v‖ / σ₁²", yscale="log")
        axes.legend()


def memory(x: sp.csr_matrix, seed: int) -> Figure:
    """The most that is held at a time, the matrix with it, against twice the matrix and the basis."""
    matrix = x.data.nbytes + x.indices.nbytes + x.indptr.nbytes
    allowed = 2 * matrix + basis_size(K) * x.shape[1] * 4
    tracemalloc.start()
    truncated_svd(x, K, seed, THREADS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    mib = 2**20
    return Figure(
        "peak memory",
        (matrix + peak) / mib,
        "MiB",
        "2 x matrix + basis",
        allowed / mib,
        1.0,
        bar_on_ratio=True,
    )


def on_spark(x: sp.csr_matrix, seed: int, size: float) -> list[Figure]:
    """The barrier job on blocks in a lake, vectors written, beside the same in process; then MLlib."""
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as home:
        settings = load_settings().model_copy(
            update={"home": Path(home), "spark": SparkSettings(driver_memory="6g")}
        )
        spark = spark_session(settings)
        matrix = Path(home) / "matrix"
        write_blocks(matrix, x)
        cfg = EmbeddingSettings(dim=K, seed=seed, smoothing=0.0)

        def job() -> None:
            with tempfile.TemporaryDirectory(dir=home) as out:
                (Path(out) / "consumers").mkdir()
                run_together(spark, settings, svd_member(str(matrix), out, cfg))

        def in_process() -> None:
            ready = normalized(x)
            sigma, v = truncated_svd(ready, K, seed, THREADS, cfg.tolerance)
            np.save(Path(home) / "consumers.npy", factors(ready, sigma, v).consumers)

        for _ in range(WARM):
            job()
        pairs = [
            (seconds(job)[0], seconds(in_process)[0])
            for _ in track(range(4 * ROUNDS), "Spark beside in process")
        ]
        jobs, alone = (median(times) for times in zip(*pairs, strict=True))
        in_jvm = mllib_seconds(spark, normalized(x), in_jvm=True, limit_s=600)
        plain = mllib_seconds(spark, normalized(x), in_jvm=False, limit_s=2 * MLLIB_BAR * jobs)
        spark.stop()
    return [
        Figure("one barrier job", jobs, "s", "in process", alone, 1.3, bar_on_ratio=True),
        *(
            Figure(
                name,
                took,
                "s",
                "our barrier job",
                jobs,
                MLLIB_BAR,
                at_most=False,
                bar_on_ratio=True,
            )
            for name, took in (
                ("MLlib computeSVD, rows in the JVM", in_jvm),
                ("MLlib computeSVD, rows cached by PySpark; stopped at twice the bar", plain),
            )
        ),
    ]


def write_blocks(home: Path, x: sp.csr_matrix) -> None:
    """The matrix as the step `matrix` would have left it, in two blocks."""
    home.mkdir()
    np.save(home / "column_sums.npy", np.asarray(x.sum(axis=0), np.float64).ravel())
    for number, rows in enumerate(np.array_split(np.arange(x.shape[0]), 2)):
        part = x[rows[0] : rows[-1] + 1]
        ids = np.array([b"%08d" % row for row in rows])
        counts = np.diff(part.indptr).astype(np.int32)
        block = Block(
            ids, counts, part.indptr.astype(np.int64), part.indices, part.data.astype(np.float64)
        )
        save_block(home / "fitted" / f"block-{number:05d}", block)


def mllib_seconds(spark, x: sp.csr_matrix, in_jvm: bool, limit_s: float) -> float:
    """RowMatrix.computeSVD, U not asked for; the limit when it takes longer.

    in_jvm: the rows are cached as the JVM's own vectors, for which one has to reach behind PySpark. What `cache()` of
    PySpark keeps are pickles, and each pass unpacks them again.
    """
    from pyspark.mllib.linalg import Vectors
    from pyspark.mllib.linalg.distributed import RowMatrix

    def rows(part: int):
        for i in range(part, x.shape[0], THREADS):
            entries = slice(x.indptr[i], x.indptr[i + 1])
            yield Vectors.sparse(x.shape[1], x.indices[entries].tolist(), x.data[entries].tolist())

    given = spark.sparkContext.parallelize(range(THREADS), THREADS).flatMap(rows)
    if not in_jvm:
        given.cache().count()
    matrix = RowMatrix(given, x.shape[0], x.shape[1])
    if in_jvm:
        matrix._java_matrix_wrapper._java_model.rows().cache().count()
    late = threading.Event()
    alarm = threading.Timer(limit_s, lambda: (late.set(), spark.sparkContext.cancelAllJobs()))
    alarm.start()
    try:
        return seconds(lambda: matrix.computeSVD(K, computeU=False, rCond=1e-9))[0]
    except Py4JJavaError:
        if late.is_set():
            return limit_s
        raise
    finally:
        alarm.cancel()


def large(size: float, seed: int) -> list[Figure]:
    """Seconds and multiplied columns at a quarter, a half and the whole of 31 M non-zeros, in one shape."""
    took, non_zeros = [], []
    for share in track((0.25, 0.5, 1.0), "1,000,000 x 100,000"):
        x = normalized(
            community_matrix(int(1e6 * size), int(1e5 * size), int(34e6 * size * share), GAP, seed)
        )
        took.append(seconds(lambda: truncated_svd(x, K, seed, THREADS))[0])  # noqa: B023
        non_zeros.append(x.nnz)
    growth = (took[-1] / took[0]) / (non_zeros[-1] / non_zeros[0])
    return [
        *(
            Figure(f"{nnz / 1e6:.1f} M non-zeros", t, "s")
            for nnz, t in zip(non_zeros, took, strict=True)
        ),
        Figure("growth of time / growth of non-zeros", growth, "", bar=1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
