"""Truncated SVD of the degree-normalised consumer-producer matrix, and the vectors made of it.

The matrix never leaves its rows: every worker multiplies its own rows by XᵀX in one pass over their
non-zeros (no transpose is stored), and one (n_producers, block) array is summed per step. The basis
is split by producers, so that the dense algebra is shared too.
Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from embeddings.blocks import MatrixShare
from embeddings.embedders import base
from embeddings.embedders.base import Curve, Fitted, Progress
from embeddings.facts import Fact
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

Multiply = Callable[[np.ndarray], np.ndarray]

TOLERANCE = 5e-3  # where σ² is well above this, its own error is of the order of the square
FINEST = 1e-7  # a smaller residual may not be reached in float32


class Options(base.Options):
    """Options of the truncated SVD, `[embedding.svd]`."""

    tolerance: float = Field(default=TOLERANCE, ge=FINEST)
    """‖XᵀXv − σ²v‖ / σ₁² at which a direction has converged."""

    smoothing: float = Field(default=1.0, ge=0)
    """Added to row and column sums, in units of their means; keeps small islands of consumers out
    of the strongest directions."""


class SVD:
    """Consumers U√Σ and producers V√Σ of the normalised matrix; fold-in is by V Σ^(-1/2)."""

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
        x = matrix.by_consumer(
            lambda block: normalize(block, sums, row_extra, np.float32),
        )
        steps: list[int] = []
        worst: list[float] = []

        def report(columns: int, residuals: np.ndarray) -> None:
            steps.append(columns)
            worst.append(float(residuals.max()))
            good = int(np.sum(residuals <= options.tolerance))
            progress(f"SVD: {columns} columns multiplied, {good} of {dim} directions converged")

        sigma, v = leading(x, dim, comm, seed, options.tolerance, report)
        norm = comm.allreduce(np.array([np.vdot(x.data, x.data)], np.float64))
        energy_share = float(np.sum(sigma**2)) / float(norm[0])
        vectors = factors(x, sigma, v)
        facts: dict[str, float | int] = {
            "largest_singular_value": float(sigma[0]),
            "smallest_singular_value": float(sigma[-1]),
            "energy_share": energy_share,
            "columns_multiplied": steps[-1] if steps else matrix.n_producers,
        }
        from embeddings.fold_in.svd import SVDFoldIn

        fold_in = SVDFoldIn(vectors.fold_in, sums, row_extra)
        curves = [spectrum(sigma, energy_share)]
        if steps:  # a small matrix is solved at once
            curves.append(convergence(steps, worst, options.tolerance))
        return Fitted(vectors.consumers, vectors.producers, fold_in, facts, curves)


EMBEDDER = SVD()


def convergence(steps: list[int], worst: list[float], tolerance: float) -> Curve:
    """How the solver converged: the largest residual by work done."""
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
    """How fast the strength of the directions falls."""
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
    """The vectors that σ (k,) and V (m, k) give the rows x, all or some of the matrix's."""
    root = np.sqrt(sigma)
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
    cuts = np.searchsorted(x.indptr, np.linspace(0, x.nnz, threads + 1)[1:-1])
    bounds = [0, *cuts.tolist(), x.shape[0]]

    def work(comm: Communicator) -> tuple[np.ndarray, np.ndarray]:
        rows = row_range(x, bounds[comm.rank], bounds[comm.rank + 1])
        return leading(rows, k, comm, seed, tolerance)

    return run_threads(threads, work)[0]


def row_range(x: sp.csr_matrix, start: int, stop: int) -> sp.csr_matrix:
    """x[start:stop] without a copy of its entries."""
    entries = slice(x.indptr[start], x.indptr[stop])
    indptr = x.indptr[start : stop + 1] - x.indptr[start]
    shape = (stop - start, x.shape[1])
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
    of workers, same result. Every worker returns the same.

    Raises ValueError for a tolerance below FINEST and for entries that are not finite or whose
    squares are not; NotConverged where the solver reaches its limit.
    """
    if tolerance < FINEST:
        raise ValueError(
            f"A tolerance of {tolerance:g} cannot be kept in float32; take at least {FINEST:g}."
        )
    m = x.shape[1]
    own = share(m, comm)
    multiply = partial(multiply_gram, x, comm)
    if m <= capacity(k):  # the basis would span everything: solve the dense problem at once
        theta, vectors = agreed_eigh(comm.allgather(multiply(np.eye(m)), m), comm)
        theta = theta[:k]
        rows = vectors[own, :k].astype(np.float32)
    else:
        operator = Operator(multiply, m, comm)
        theta, rows = largest_eigenpairs(operator, k, seed, tolerance, progress)
    sigma = np.sqrt(np.maximum(theta, 0.0))
    known = sigma > NOISE * max(sigma.max(initial=0.0), 1e-300)
    rows *= (signs(rows, comm) * known).astype(np.float32)
    # A producer without engagements keeps only what the random start gave it.
    engaged = np.zeros(m, np.float32)
    engaged[x.indices[x.data != 0]] = 1
    rows[comm.reduce_scatter(engaged) == 0] = 0
    v = comm.allgather(rows, m)
    sigma = sigma * known
    missing = k - len(sigma)
    if missing:
        sigma = np.pad(sigma, (0, missing))
        v = np.pad(v, ((0, 0), (0, missing)))
    return sigma, v


def signs(rows: np.ndarray, comm: Communicator) -> np.ndarray:
    """±1 per column, which makes its largest entry positive. rows: (own producers, k)."""
    columns = np.arange(rows.shape[1])
    if len(rows):
        largest = rows[np.abs(rows).argmax(axis=0), columns]
    else:
        largest = np.zeros(len(columns))
    every = comm.allgather(largest[None].astype(np.float32), comm.size)
    winner = every[np.abs(every).argmax(axis=0), columns]
    return np.where(winner < 0, -1.0, 1.0)


def multiply_gram(x: sp.csr_matrix, comm: Communicator, q: np.ndarray) -> np.ndarray:
    """q (m, b) -> this worker's rows of XᵀX q, in q's type. float32 has BLOCK columns."""
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
