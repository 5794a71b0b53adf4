"""Implicit alternating least squares (iALS): vectors whose products come near 1 where there is an engagement.

    loss = Σ_(i,j)∈S s_ij (u_i·v_j - 1)² + α0 Σ_all (u_i·v_j)²
           + λ Σ_i (|S_i| + α0 m)^ν ‖u_i‖² + λ Σ_j (|S_j| + α0 n)^ν ‖v_j‖²

over n consumers and m producers with strengths s > 0 on the set S. Given one side, each row of the other side is a
small least squares problem of its own; an iteration solves the consumers' and then the producers'.
Sources: Hu, Koren, Volinsky 2008, "Collaborative filtering for implicit feedback datasets"; Rendle et al. 2022,
"Revisiting the performance of iALS on item recommendation benchmarks", arXiv:2110.14037.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import scipy.sparse as sp

from embeddings.kernels.communicator import Group, together
from embeddings.kernels.conjugate_gradients import cg_rows
from embeddings.kernels.exact_solve import exact_rows
from embeddings.kernels.simd import LANES, empty_aligned

BATCH = (
    1024  # rows that are worked on at once: with what comes of them they fit into a core's cache
)
DRAWN = 4096  # rows of the start that share a seed


@dataclass(frozen=True)
class ALSConfig:
    """What is minimised, and how. The defaults suit strengths around 1."""

    dim: int = 64  # k, the length of a vector
    iterations: int = 16
    unobserved_weight: float = 0.1  # α0, the weight of every pair, engaged or not
    regularization: float = 0.003  # λ
    frequency_exponent: float = (
        1.0  # ν; 0: the same penalty for all, 1: in proportion to a row's engagements
    )
    solver: Literal["cg", "exact"] = "cg"
    cg_steps: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dim < 1 or self.iterations < 1 or self.cg_steps < 1:
            raise ValueError(f"dim, iterations and cg_steps must be at least 1: {self}.")
        if self.regularization <= 0 or self.unobserved_weight < 0:
            raise ValueError(
                f"regularization must be above 0 and unobserved_weight at least 0: {self}."
            )
        if self.solver not in ("cg", "exact"):
            raise ValueError(f"There is no solver {self.solver!r}; take 'cg' or 'exact'.")


@dataclass(frozen=True)
class ALSFactors:
    """What a fit leaves behind. The consumers of a member of a group are its own; the rest is everybody's."""

    consumers: np.ndarray  # (n, k) float32
    producers: np.ndarray  # (m, k) float32
    gram: np.ndarray  # (k, k) float64, VᵀV of the producers
    losses: np.ndarray  # (iterations,) float64, the whole loss after each iteration


def als(
    x: sp.csr_matrix,
    cfg: ALSConfig,
    threads: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> ALSFactors:
    """Fit a matrix in this process. x: (n, m) strengths > 0. Any number of threads gives the same to rounding.

    progress, and what is raised: as in `fit`.
    """

    def work(group: Group) -> ALSFactors:
        own, columns_own = mine[group.rank], theirs[group.rank]
        return fit(x[own], columns[columns_own], cfg, group, progress if group.rank == 0 else None)

    columns = x.T.tocsr()
    mine, theirs = even_split(x.indptr, threads), even_split(columns.indptr, threads)
    parts = together(threads, work)
    consumers = np.concatenate([part.consumers for part in parts])
    return ALSFactors(consumers, parts[0].producers, parts[0].gram, parts[0].losses)


def fit(
    by_consumer: sp.csr_matrix,
    by_producer: sp.csr_matrix,
    cfg: ALSConfig,
    group: Group,
    progress: Callable[[int, float], None] | None = None,
) -> ALSFactors:
    """One member's part of a fit; the members' rows follow each other by rank.

    by_consumer: (own consumers, m) strengths > 0. by_producer: (own producers, n), the same matrix transposed.
    progress: called with the iterations done and the loss. Raises ValueError when the members' rows do not make up
    the whole matrix, or a strength is not above 0.
    """
    consumers = Side(by_consumer, by_producer.shape[1], cfg, group)
    producers = Side(by_producer, by_consumer.shape[1], cfg, group)
    producers.rows[:, : cfg.dim] = initial_rows(producers.start, len(producers.rows), cfg)
    losses, frame = np.empty(cfg.iterations), np.eye(cfg.dim)
    for iteration in range(cfg.iterations):
        for side, other in ((consumers, producers), (producers, consumers)):
            eigenvalues, axes = shared_axes(other.gram(), group)
            frame = frame @ axes
            side.turn(axes)
            other.turn(axes)
            losses[iteration] = side.solve(other, eigenvalues)
        if progress:
            progress(iteration + 1, losses[iteration])
    consumers.turn(frame.T)
    producers.turn(frame.T)
    return ALSFactors(consumers.own(), group.gather(producers.own()), producers.gram(), losses)


class Side:
    """One member's rows of one side, consumers or producers. They are as wide as the kernels want them."""

    def __init__(self, x: sp.csr_matrix, total: int, cfg: ALSConfig, group: Group) -> None:
        """x: (own rows, rows of the other side). total: rows of this side over all members."""
        sizes = group.gather(np.array([x.shape[0]]))
        if sizes.sum() != total:
            raise ValueError(
                f"The group's rows are {sizes.sum()}; the other side of the matrix has {total} columns."
            )
        self.cfg, self.group = cfg, group
        self.start = int(sizes[: group.rank].sum())
        self.indptr, self.indices = x.indptr, x.indices
        self.strengths = positive(x.data)
        weights = (cfg.unobserved_weight, cfg.regularization, cfg.frequency_exponent)
        self.penalties = penalties(np.diff(x.indptr), x.shape[1], *weights)
        self.rows = empty_aligned(x.shape[0], cfg.dim + -cfg.dim % LANES)
        self.rows[...] = 0.0

    def own(self) -> np.ndarray:
        """The rows, (own rows, k)."""
        return np.ascontiguousarray(self.rows[:, : self.cfg.dim])

    def gram(self) -> np.ndarray:
        """Σ v vᵀ over the rows of all members, (k, k) float64.

        Summed in float32 within a batch: that errs no more than the vectors' own rounding and takes half the time.
        """
        own = np.zeros((self.cfg.dim, self.cfg.dim))
        for batch in batches(len(self.rows)):
            rows = self.rows[batch, : self.cfg.dim]
            own += rows.T @ rows
        return self.group.sum(own)

    def turn(self, axes: np.ndarray) -> None:
        """Write the rows in other coordinates: each times the orthogonal axes (k, k)."""
        wide = np.eye(self.rows.shape[1], dtype=np.float32)
        wide[: len(axes), : len(axes)] = axes
        for batch in batches(len(self.rows)):
            self.rows[batch] = self.rows[batch] @ wide

    def penalty(self) -> float:
        """Σ λ_i ‖u_i‖² over the rows of all members."""
        own = self.penalties @ np.einsum("ij,ij->i", self.rows, self.rows)
        return float(self.group.sum(np.array([own]))[0])

    def solve(self, other: Side, eigenvalues: np.ndarray) -> float:
        """Solve these rows given the other side's, in coordinates where the other's Gram matrix is diagonal.

        eigenvalues: (k,), that diagonal. Returns the whole loss afterwards.
        """
        cfg, vectors = self.cfg, self.group.gather(other.rows)
        dense = np.zeros(vectors.shape[1], np.float32)
        dense[: cfg.dim] = cfg.unobserved_weight * eigenvalues
        losses = np.empty(len(self.rows))
        for batch in batches(len(self.rows)):
            indptr, rows = self.indptr[batch.start : batch.stop + 1], self.rows[batch]
            given = (indptr, self.indices, self.strengths, vectors, dense, self.penalties[batch])
            if cfg.solver == "cg":
                cg_rows(*given, cfg.cg_steps, rows, losses[batch])
            else:
                exact_rows(*given, rows, losses[batch])
        return float(self.group.sum(np.array([losses.sum()]))[0]) + other.penalty()


def positive(strengths: np.ndarray) -> np.ndarray:
    """The strengths as float32. Raises ValueError unless all are above 0, as the row problems need them."""
    if (
        not (single := strengths.astype(np.float32, copy=False)).all()
        or single.min(initial=1.0) < 0
    ):
        raise ValueError("A strength is not above 0: leave out pairs without engagement.")
    return single


def penalties(
    counts: np.ndarray,
    others: int,
    unobserved_weight: float,
    regularization: float,
    frequency_exponent: float,
) -> np.ndarray:
    """λ_i = λ (|S_i| + α0 · others)^ν. counts: (n,), |S_i|. others: rows of the other side. Returns (n,) float32."""
    return (regularization * (counts + unobserved_weight * others) ** frequency_exponent).astype(
        np.float32
    )


def shared_axes(gram: np.ndarray, group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (k,) >= 0 and eigenvectors (k, k) of a Gram matrix: the first member's, so that all have the same."""
    eigenvalues, axes = (
        np.linalg.eigh(gram) if group.rank == 0 else (np.zeros(len(gram)), np.zeros_like(gram))
    )
    return group.sum(np.maximum(eigenvalues, 0.0)), group.sum(axes)


def initial_rows(start: int, count: int, cfg: ALSConfig) -> np.ndarray:
    """Rows start … start + count of N(0, (0.1/√k)²), (count, k) float32: the same rows however they are shared out."""
    first = start - start % DRAWN
    seeds = [[cfg.seed, row // DRAWN] for row in range(first, max(start + count, first + 1), DRAWN)]
    drawn = [
        np.random.default_rng(seed).standard_normal((DRAWN, cfg.dim), np.float32) for seed in seeds
    ]
    return np.concatenate(drawn)[start - first :][:count] * np.float32(0.1 / np.sqrt(cfg.dim))


def batches(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, n)) for start in range(0, n, BATCH))


def even_split(indptr: np.ndarray, parts: int) -> list[slice]:
    """Contiguous row ranges with about as many interactions each. indptr: (n + 1,)."""
    bounds = np.searchsorted(indptr, np.linspace(0, indptr[-1], parts + 1))
    bounds[0], bounds[-1] = 0, len(indptr) - 1
    return [slice(int(a), int(b)) for a, b in pairwise(bounds)]
