"""Implicit alternating least squares (iALS): products of vectors approach 1 for engaged pairs.

    loss = Σ_(i,j)∈S s_ij (u_i·v_j - 1)² + α0 Σ_all (u_i·v_j)²
           + λ Σ_i (|S_i| + α0 m)^ν ‖u_i‖² + λ Σ_j (|S_j| + α0 n)^ν ‖v_j‖²

over n consumers and m producers with strengths s > 0 on the set S. Given one side, each row of the
other side is a small least squares problem. An iteration solves the consumers and then the
producers. Sources: Hu, Koren, Volinsky 2008, "Collaborative filtering for implicit feedback
datasets"; Rendle et al. 2022, "Revisiting the performance of iALS on item recommendation
benchmarks", arXiv:2110.14037.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from embeddings.blocks import MatrixShare, even_split
from embeddings.embedders import base
from embeddings.embedders.base import Curve, Fitted, Progress
from embeddings.facts import Fact
from embeddings.fold_in.als import ALSFoldIn
from embeddings.kernels.arguments import penalties, positive
from embeddings.kernels.communicator import Communicator, run_threads
from embeddings.kernels.conjugate_gradients import cg_rows
from embeddings.kernels.exact_solve import exact_rows
from embeddings.kernels.simd import LANES, empty_aligned
from embeddings.sampling import noise

BATCH = 1024  # rows solved at a time: they and their intermediate results fit into a core's cache


class Options(base.Options):
    """Options of ALS, `[embedding.als]`. The defaults suit strengths around 1."""

    iterations: int = Field(default=32, ge=1)
    """Number of iterations. After 32, the producers of two seeds agree to a mean cosine of 0.95;
    after 16, to 0.91."""

    unobserved_weight: float = Field(default=0.1, ge=0)
    """α0, the weight of every pair, with an engagement or without."""

    regularization: float = Field(default=0.003, gt=0)
    """λ, the penalty on the length of vectors."""

    frequency_exponent: float = Field(default=1.0, ge=0, le=2)
    """ν. 0: the same penalty for every row; 1: in proportion to a row's engagements."""

    solver: Literal["cg", "exact"] = "cg"
    """How a row is solved: a few conjugate gradient steps ("cg"), or exactly ("exact")."""

    cg_steps: int = Field(default=3, ge=1)
    """Conjugate gradient steps per row and half step."""


class ALSConfig(Options):
    """Everything that determines a fit. Raises ValueError (pydantic) for values out of range."""

    dim: int = Field(default=64, ge=1)  # k, the length of a vector
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class ALSFactors:
    """The result of a fit. A worker has its own `consumers`; the rest is the same everywhere."""

    consumers: np.ndarray  # (n, k) float32
    producers: np.ndarray  # (m, k) float32
    gram: np.ndarray  # (k, k) float64, VᵀV of the producers
    losses: np.ndarray  # (iterations,) float64, the whole loss after each iteration


class ALS:
    """Consumers U and producers V of implicit ALS; fold-in is the half step of the fit."""

    FACTS = (
        Fact("loss", "loss after the last iteration", better="lower", headline=True),
        Fact("iterations", "iterations of both half steps", "iterations"),
    )

    def fit(
        self, matrix: MatrixShare, dim: int, seed: int, options: Options, progress: Progress
    ) -> Fitted:
        """As `Embedder.fit`."""
        cfg = ALSConfig(dim=dim, seed=seed, **options.model_dump())
        losses: list[float] = []

        def report(iteration: int, loss: float) -> None:
            losses.append(loss)
            progress(f"ALS: {iteration} of {cfg.iterations} iterations, loss {loss:.6g}")

        by_consumer = matrix.by_consumer(lambda block: block.astype(np.float32))
        by_producer = matrix.by_producer()
        factors = fit(by_consumer, by_producer, cfg, matrix.comm, report, matrix.producer_ids)
        facts: dict[str, float | int] = {"loss": losses[-1], "iterations": len(losses)}
        fold_in = ALSFoldIn.of(factors, cfg)
        return Fitted(factors.consumers, factors.producers, fold_in, facts, [loss_curve(losses)])


EMBEDDER = ALS()


def loss_curve(losses: list[float]) -> Curve:
    """How the solver converged: the loss by iteration."""
    return Curve(
        name="convergence",
        title=f"{len(losses)} iterations",
        xlabel="iteration",
        ylabel="loss",
        x=[float(i) for i in range(1, len(losses) + 1)],
        y=losses,
    )


def als(
    x: sp.csr_matrix,
    cfg: ALSConfig,
    threads: int = 1,
    progress: Callable[[int, float], None] | None = None,
    producer_ids: np.ndarray | None = None,
) -> ALSFactors:
    """Fit a matrix in this process. x: (n, m) strengths > 0.

    The number of threads changes the result only by rounding. progress, producer_ids, errors
    raised: as in `fit`.
    """

    def work(comm: Communicator) -> ALSFactors:
        rows = x[consumer_ranges[comm.rank]]
        columns = transposed[producer_ranges[comm.rank]]
        return fit(rows, columns, cfg, comm, progress if comm.rank == 0 else None, producer_ids)

    transposed = x.T.tocsr()
    consumer_ranges = even_split(x.indptr, threads)
    producer_ranges = even_split(transposed.indptr, threads)
    parts = run_threads(threads, work)
    consumers = np.concatenate([part.consumers for part in parts])
    return ALSFactors(consumers, parts[0].producers, parts[0].gram, parts[0].losses)


def fit(
    by_consumer: sp.csr_matrix,
    by_producer: sp.csr_matrix,
    cfg: ALSConfig,
    comm: Communicator,
    progress: Callable[[int, float], None] | None = None,
    producer_ids: np.ndarray | None = None,
) -> ALSFactors:
    """One worker's part of a fit; the workers' rows follow each other by rank.

    by_consumer: (own consumers, m) strengths > 0. by_producer: (own producers, n), the same matrix
    transposed. progress: called with the number of finished iterations and the loss.
    producer_ids: (m,) bytes, which decide where the producers start; by default their row numbers.

    Raises ValueError if the workers' rows do not make up the whole matrix, or a strength is not
    above 0.
    """
    # The consumers start at zero: they are solved first, from the random producers.
    consumers = Side(by_consumer, by_producer.shape[1], cfg, comm)
    producers = Side(by_producer, by_consumer.shape[1], cfg, comm)
    if producer_ids is None:
        producer_ids = row_numbers(by_consumer.shape[1])
    own = slice(producers.start, producers.start + len(producers.rows))
    producers.rows[:, : cfg.dim] = initial_rows(producer_ids[own], cfg)
    losses = np.empty(cfg.iterations)
    rotation = np.eye(cfg.dim)  # the product of all rotations so far, undone at the end
    for iteration in range(cfg.iterations):
        for side, other in ((consumers, producers), (producers, consumers)):
            # In the axes of the other side's Gram matrix the dense part of every row is diagonal.
            # Both sides are rotated, so that their products stay the same.
            eigenvalues, axes = shared_axes(other.gram(), comm)
            rotation = rotation @ axes
            side.rotate(axes)
            other.rotate(axes)
            losses[iteration] = side.solve(other, eigenvalues)
        if progress:
            progress(iteration + 1, float(losses[iteration]))
    consumers.rotate(rotation.T)
    producers.rotate(rotation.T)
    vectors = comm.allgather(producers.vectors())
    return ALSFactors(consumers.vectors(), vectors, producers.gram(), losses)


class Side:
    """One worker's rows of one side, consumers or producers, padded to the width of the kernels."""

    def __init__(self, x: sp.csr_matrix, total: int, cfg: ALSConfig, comm: Communicator) -> None:
        """x: (own rows, rows of the other side). total: rows of this side over all workers."""
        sizes = comm.allgather(np.array([x.shape[0]]))
        if sizes.sum() != total:
            # Ranges that do not fit together would silently assign vectors to the wrong rows.
            raise ValueError(
                f"The workers hold {sizes.sum()} rows; the other side of the matrix has {total} "
                "columns."
            )
        self.cfg = cfg
        self.comm = comm
        self.start = int(sizes[: comm.rank].sum())
        self.indptr = x.indptr
        self.indices = x.indices
        self.strengths = positive(x.data)
        weights = (cfg.unobserved_weight, cfg.regularization, cfg.frequency_exponent)
        self.penalties = penalties(np.diff(x.indptr), x.shape[1], *weights)
        # Padded with zeros, which change no product, to whole vectors of the kernels.
        self.rows = empty_aligned(x.shape[0], cfg.dim + -cfg.dim % LANES)
        self.rows[...] = 0.0

    def vectors(self) -> np.ndarray:
        """The rows without padding, (own rows, k)."""
        return np.ascontiguousarray(self.rows[:, : self.cfg.dim])

    def gram(self) -> np.ndarray:
        """Σ v vᵀ over the rows of all workers, (k, k) float64.

        Within a batch the sum is float32: no larger an error than the rounding of the vectors, and
        half the time.
        """
        own = np.zeros((self.cfg.dim, self.cfg.dim))
        for batch in batches(len(self.rows)):
            rows = self.rows[batch, : self.cfg.dim]
            own += rows.T @ rows
        return self.comm.allreduce(own)

    def rotate(self, axes: np.ndarray) -> None:
        """Multiply each row by the orthogonal axes (k, k), in place."""
        wide = np.eye(self.rows.shape[1], dtype=np.float32)
        wide[: len(axes), : len(axes)] = axes
        for batch in batches(len(self.rows)):
            self.rows[batch] = self.rows[batch] @ wide

    def penalty(self) -> float:
        """Σ λ_i ‖u_i‖² over the rows of all workers."""
        own = self.penalties @ np.einsum("ij,ij->i", self.rows, self.rows)
        return float(self.comm.allreduce(np.array([own]))[0])

    def solve(self, other: Side, eigenvalues: np.ndarray) -> float:
        """Solve these rows given the other side's, and return the whole loss afterwards.

        Both sides are in coordinates where the other's Gram matrix is diagonal: eigenvalues (k,).
        """
        cfg = self.cfg
        vectors = self.comm.allgather(other.rows)
        dense = np.zeros(vectors.shape[1], np.float32)
        dense[: cfg.dim] = cfg.unobserved_weight * eigenvalues
        losses = np.empty(len(self.rows))
        for batch in batches(len(self.rows)):
            indptr = self.indptr[batch.start : batch.stop + 1]
            rows = self.rows[batch]
            own = self.penalties[batch]
            problem = (indptr, self.indices, self.strengths, vectors, dense, own)
            if cfg.solver == "cg":
                cg_rows(*problem, cfg.cg_steps, rows, losses[batch])
            else:
                exact_rows(*problem, rows, losses[batch])
        # The rows' losses contain their own penalties and the α0 part of all pairs. What is missing
        # is the penalty of the other side.
        own_loss = np.array([losses.sum()])
        return float(self.comm.allreduce(own_loss)[0]) + other.penalty()


def shared_axes(gram: np.ndarray, comm: Communicator) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (k,) >= 0 and eigenvectors (k, k) of a Gram matrix.

    The first worker computes them for all: processors of different kinds may round differently, and
    all workers need the same axes.
    """
    if comm.rank == 0:
        eigenvalues, axes = np.linalg.eigh(gram)
    else:
        eigenvalues = np.zeros(len(gram))
        axes = np.zeros_like(gram)
    eigenvalues = np.maximum(eigenvalues, 0.0)  # rounding can make a zero negative
    return comm.allreduce(eigenvalues), comm.allreduce(axes)


def row_numbers(n: int) -> np.ndarray:
    """Ids for rows without any, (n,) bytes."""
    return np.arange(n).astype(np.bytes_)


def initial_rows(ids: np.ndarray, cfg: ALSConfig) -> np.ndarray:
    """The start of these producers, (count, k) float32, with the variance (0.1/√k)².

    It depends on the id and the seed, not on the row: a producer starts in the same place every
    day, so that two days end up close to each other (docs/experiments.md). Source of the variance:
    Rendle et al. 2022.
    """
    return noise(ids, cfg.dim, cfg.seed) * np.float32(0.1 * np.sqrt(3 / cfg.dim))


def batches(n: int) -> Iterator[slice]:
    """Slices of at most BATCH rows."""
    for start in range(0, n, BATCH):
        yield slice(start, min(start + BATCH, n))
