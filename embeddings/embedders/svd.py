"""Truncated SVD of the degree-normalised consumer-producer matrix, and the vectors derived from it.

No row of the matrix X is moved: every worker computes the part of XᵀX q that comes from its own
rows, in one pass over their non-zeros (no transpose is stored), and one (n_producers, block) array
is summed per step. The basis is split by producers, so that the dense algebra is shared too.
Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from embeddings.blocks import MatrixShare, even_split
from embeddings.embedders import base
from embeddings.embedders.base import Curve, Fitted, Progress
from embeddings.facts import Fact
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.communicator import Communicator, empty, run_threads, share
from embeddings.kernels.gram_product import add_gram_block, add_gram_product
from embeddings.kernels.lanczos import (
    NOISE,
    Operator,
    agreed_eigh,
    capacity,
    largest_eigenpairs,
)
from embeddings.kernels.lanczos import Progress as SolverProgress
from embeddings.kernels.normalize import normalize, smoothed

TOLERANCE = 5e-3  # of σ₁². A σ² well above it has an error of the order of the square, 25e-6
FINEST = 1e-7  # of σ₁²: float32 may not reach a smaller residual


class Options(base.Options):
    """Options of the truncated SVD, `[embedding.svd]`."""

    tolerance: float = Field(default=TOLERANCE, ge=FINEST)
    """‖XᵀXv − σ²v‖ / σ₁² at which a direction has converged."""

    smoothing: float = Field(default=1.0, ge=0)
    """Added to row and column sums, in units of their means; keeps small islands of consumers out
    of the strongest directions."""


class SVD:
    """Consumers U√Σ and producers V√Σ of the normalised matrix U Σ Vᵀ; fold-in by V Σ^(-1/2)."""

    FACTS = (
        Fact("energy_share", "share of ‖X̂‖² in the k directions", "share", headline=True),
        Fact("largest_singular_value", "σ₁ of the normalised matrix"),
        Fact("smallest_singular_value", "σₖ of the normalised matrix"),
        Fact("columns_multiplied", "vectors multiplied by XᵀX until convergence", "vectors"),
    )

    def fit(
        self, matrix: MatrixShare, dim: int, seed: int, options: Options, progress: Progress
    ) -> Fitted:
        """As `Embedder.fit`."""
        comm = matrix.comm
        sums, row_extra = smoothed(matrix.column_sums, matrix.n_consumers, options.smoothing)
        x = matrix.by_consumer(lambda block: normalize(block, sums, row_extra, np.float32))
        steps: list[int] = []  # columns multiplied at each check
        worst: list[float] = []  # and the largest residual then

        def report(columns: int, residuals: np.ndarray) -> None:
            steps.append(columns)
            worst.append(float(residuals.max()))
            converged = int(np.sum(residuals <= options.tolerance))
            progress(
                f"SVD: {columns} columns multiplied, {converged} of {dim} directions converged"
            )

        sigma, v = leading(x, dim, comm, seed, options.tolerance, report)
        norm = comm.allreduce(np.array([np.vdot(x.data, x.data)], np.float64))
        energy_share = float(np.sum(sigma**2)) / float(norm[0])
        vectors = factors(x, sigma, v)
        facts: dict[str, float | int] = {
            "largest_singular_value": float(sigma[0]),
            "smallest_singular_value": float(sigma[-1]),
            "energy_share": energy_share,
            # Without a check the dense XᵀX was computed: one column per producer.
            "columns_multiplied": steps[-1] if steps else matrix.n_producers,
        }
        fold_in = SVDFoldIn(vectors.fold_in, sums, row_extra)
        curves = [spectrum(sigma, energy_share)]
        if steps:
            curves.append(convergence(steps, worst, options.tolerance))
        return Fitted(vectors.consumers, vectors.producers, fold_in, facts, curves)


EMBEDDER = SVD()


def convergence(steps: list[int], worst: list[float], tolerance: float) -> Curve:
    """How the solver converged: the largest residual by columns multiplied."""
    return Curve(
        name="convergence",
        title=f"convergence to {tolerance:g}",
        xlabel="columns multiplied by XᵀX",
        ylabel="largest ‖XᵀXv − σ²v‖ / σ₁²",
        x=[float(step) for step in steps],
        y=worst,
        log_scale=True,
        target=tolerance,
    )


def spectrum(sigma: np.ndarray, energy_share: float) -> Curve:
    """How quickly the singular values fall."""
    return Curve(
        name="singular_values",
        title=f"{energy_share:.1%} of the energy",
        xlabel="direction",
        ylabel="singular value of x̂",
        x=[float(i) for i in range(1, len(sigma) + 1)],
        y=sigma.tolist(),
        from_zero=True,
    )


@dataclass(frozen=True)
class Factors:
    """The vectors of one factorisation: k columns, strongest direction first."""

    consumers: np.ndarray  # (n_consumers, k) float32, U√Σ
    producers: np.ndarray  # (n_producers, k) float32, V√Σ
    fold_in: np.ndarray  # (n_producers, k) float32, V Σ^(-1/2)
    singular_values: np.ndarray  # (k,) float64, descending


def factorize(
    x: sp.csr_matrix, k: int, seed: int = 0, threads: int = 1, tolerance: float = TOLERANCE
) -> Factors:
    """Embed both sides in this process: consumers U√Σ, producers V√Σ, whose products approximate x.

    x: (n_consumers, n_producers), normalised.
    """
    sigma, v = truncated_svd(x, k, seed, threads, tolerance)
    return factors(x, sigma, v)


def factors(x: sp.csr_matrix, sigma: np.ndarray, v: np.ndarray) -> Factors:
    """The vectors of the consumers in x and of all producers.

    x: (n, m), all rows of the matrix or some. sigma: (k,), v: (m, k), of the whole matrix.
    """
    root = np.sqrt(sigma)
    # A missing direction has σ = 0. Its columns must be zeros, not infinities.
    inverse_root = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    fold_in = (v * inverse_root).astype(np.float32)
    consumers = np.asarray(x.astype(np.float32, copy=False) @ fold_in)
    return Factors(consumers, (v * root).astype(np.float32), fold_in, sigma)


def truncated_svd(
    x: sp.csr_matrix, k: int, seed: int = 0, threads: int = 1, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    """σ (k,) descending and V (m, k) of the whole matrix, in this process; see `leading`.

    U = X V Σ^(-1).
    """
    ranges = even_split(x.indptr, threads)

    def work(comm: Communicator) -> tuple[np.ndarray, np.ndarray]:
        rows = row_range(x, ranges[comm.rank])
        return leading(rows, k, comm, seed, tolerance)

    return run_threads(threads, work)[0]


def row_range(x: sp.csr_matrix, rows: slice) -> sp.csr_matrix:
    """x[rows] without a copy of its entries."""
    entries = slice(x.indptr[rows.start], x.indptr[rows.stop])
    indptr = x.indptr[rows.start : rows.stop + 1] - x.indptr[rows.start]
    shape = (rows.stop - rows.start, x.shape[1])
    return sp.csr_matrix((x.data[entries], x.indices[entries], indptr), shape=shape)


def leading(
    x: sp.csr_matrix,
    k: int,
    comm: Communicator,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    progress: SolverProgress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest singular values, descending, (k,) float64, and right vectors V (m, k) float32.

    x: this worker's rows; together the workers' rows are the matrix, (n, m). Stops when every
    wanted pair has ‖XᵀXv − σ²v‖ <= tolerance · σ₁². Where the matrix has fewer than k directions
    the rest are zero columns, so that the width never depends on the day. Signs are fixed (the
    largest entry of each column of V is positive) and the start is seeded: same input and number
    of workers, same result. All workers return the same.

    Raises ValueError for a tolerance below FINEST and for entries that are not finite or whose
    squares are not; NotConverged if the solver reaches its limit of restarts.
    """
    if tolerance < FINEST:
        raise ValueError(
            f"A tolerance of {tolerance:g} cannot be kept in float32; take at least {FINEST:g}."
        )
    m = x.shape[1]
    own = share(m, comm)
    multiply = partial(multiply_gram, x, comm)
    if m <= capacity(k):
        # The basis would span the whole space: form XᵀX, in float64, and decompose it directly.
        theta, vectors = agreed_eigh(comm.allgather(multiply(np.eye(m)), m), comm)
        theta = theta[:k]
        rows = vectors[own, :k].astype(np.float32)
    else:
        operator = Operator(multiply, m, comm)
        theta, rows = largest_eigenpairs(operator, k, seed, tolerance, progress)
    sigma = np.sqrt(np.maximum(theta, 0.0))  # rounding can make a zero negative
    known = sigma > NOISE * max(sigma.max(initial=0.0), 1e-300)
    rows *= (signs(rows, comm) * known).astype(np.float32)
    # A producer without engagements has only a remainder of the random start.
    engaged = np.zeros(m, np.float32)
    engaged[x.indices[x.data != 0]] = 1
    rows[comm.reduce_scatter(engaged) == 0] = 0
    v = comm.allgather(rows, m)
    sigma = sigma * known
    missing = k - len(sigma)  # of a matrix with fewer than k columns
    if missing:
        sigma = np.pad(sigma, (0, missing))
        v = np.pad(v, ((0, 0), (0, missing)))
    return sigma, v


def signs(rows: np.ndarray, comm: Communicator) -> np.ndarray:
    """±1 per column, (k,): the factor that makes its largest entry positive.

    rows: (own producers, k).
    """
    columns = np.arange(rows.shape[1])
    if len(rows):
        largest = rows[np.abs(rows).argmax(axis=0), columns]
    else:
        largest = np.zeros(len(columns))
    by_worker = comm.allgather(largest[None].astype(np.float32), comm.size)
    winner = by_worker[np.abs(by_worker).argmax(axis=0), columns]
    return np.where(winner < 0, -1.0, 1.0)


def multiply_gram(x: sp.csr_matrix, comm: Communicator, q: np.ndarray) -> np.ndarray:
    """This worker's rows of XᵀX q, in the type of q.

    x: this worker's rows of X. q: (m, b); if it is float32, b must be BLOCK. Raises ValueError if
    the result is not finite.
    """
    partial_sum = empty(q.shape, q.dtype)
    partial_sum[:] = 0
    add = add_gram_block if q.dtype == np.float32 else add_gram_product
    add(x.indptr, x.indices, x.data.astype(q.dtype, copy=False), q, partial_sum)
    own = comm.reduce_scatter(partial_sum)
    if not np.isfinite(own).all():
        raise ValueError(
            "Entries are not finite, or so large that their squares are not: normalise the matrix."
        )
    return own
