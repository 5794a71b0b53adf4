"""The largest eigenpairs of a symmetric operator: thick-restarted block Lanczos on workers.

Vectors are split by rows among the workers of a communicator; the small dense problems are solved
on the first worker, so that all have the same result. Sources: Golub & Underwood 1977, "The block
Lanczos method for computing eigenvalues"; Wu & Simon 2000, "Thick-restart Lanczos method for large
symmetric eigenvalue problems", SIAM J. Matrix Anal. Appl. 22.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embeddings.kernels.communicator import Communicator, share
from embeddings.kernels.gram_product import BLOCK

Draw = Callable[[], np.ndarray]
Progress = Callable[[int, np.ndarray], None]  # columns multiplied, relative residuals (k,)

NOISE = 1e-3  # of σ₁: float32 resolves σ² to 1e-7 of σ₁², so nothing below this is known
CLUSTER = 1e-3  # of σ₁²: values that lie closer together may be copies of one
MAX_RESTARTS = 300  # matrices of real logs need fewer than ten


class NotConverged(ArithmeticError):
    """The solver reached its limit of restarts before the wanted accuracy."""


@dataclass(frozen=True)
class Operator:
    """A symmetric positive operator A on vectors of length m, split by rows among workers."""

    multiply: Callable[[np.ndarray], np.ndarray]  # whole q (m, b) -> this worker's rows of A q
    m: int
    comm: Communicator

    @property
    def own(self) -> slice:
        """This worker's rows."""
        return share(self.m, self.comm)


def capacity(k: int) -> int:
    """Columns of the Krylov basis at which it is restarted."""
    return max(4 * BLOCK, 2 * k + 2 * BLOCK)


def largest_eigenpairs(
    operator: Operator, k: int, seed: int, tolerance: float, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues, descending, (k,), and this worker's rows of their vectors.

    Stops when every pair has ‖Av − θv‖ <= tolerance · θ₁. A block finds at most as many copies of
    one value as it has columns: where that many values lie close together, the search continues
    from a new random block until it finds no more of them. Raises NotConverged after MAX_RESTARTS.
    """
    basis = Basis(operator, k, seed)
    pause = max(2 * BLOCK, k // 10)  # columns between two looks at the residuals
    look_at = k
    known = np.full(k, np.inf)  # the values at which the last search began
    while True:
        basis.extend()
        if basis.filled < look_at and not basis.full:
            continue
        theta, y = basis.ritz_pairs()
        residuals = basis.residuals(y[:, :k]) / max(theta[0], 1e-300)
        if progress:
            progress(basis.multiplied, residuals)
        moved = np.abs(theta[:k] - known).max() > CLUSTER * theta[0]
        search = has_cluster(theta[:k]) and moved
        # Before a search the residual part of the space is dropped, and later looks do not see it.
        converged = residuals.max() <= (tolerance / 4 if search else tolerance)
        if converged and not search:
            return theta[:k], basis.combined(y[:, :k])
        if converged:
            known = theta[:k]
            basis.restart(theta, y, k)
            basis.w = basis.draw()
        elif basis.full:
            basis.restart(theta, y, k + BLOCK)
        if basis.restarts > MAX_RESTARTS:
            raise NotConverged(
                f"The eigensolver has not converged after {MAX_RESTARTS} restarts "
                f"({basis.multiplied} columns multiplied): the largest residual is "
                f"{residuals.max():.2g}, wanted {tolerance:g}. Raise the tolerance, or lower the "
                "number of dimensions."
            )
        look_at = basis.filled + pause


class Basis:
    """An orthonormal basis Q that grows block by block: A Q = Q H + W Eᵀ, with W orthogonal to Q.

    H = QᵀAQ is kept whole (full re-orthogonalisation). A Ritz pair (θ, Q y) then has the residual
    ‖W y_last‖, where y_last is the end of y that belongs to the newest block.
    """

    def __init__(self, operator: Operator, k: int, seed: int) -> None:
        self.operator = operator
        self.comm = operator.comm
        own = operator.own
        columns = capacity(k)
        self.q = np.empty((own.stop - own.start, columns), dtype=np.float32, order="F")
        self.h = np.zeros((columns, columns))
        self.filled = 0  # columns of Q so far
        self.multiplied = 0  # columns multiplied by A since the beginning
        self.restarts = 0
        self._coupled = 0  # the newest A-block is orthogonal to the columns before this one
        self._largest = 0.0  # the largest diagonal entry of H so far
        self._rng = np.random.default_rng(seed)
        self.w = self.draw()  # the next block, before it is made orthonormal

    @property
    def full(self) -> bool:
        """Has the basis no room for another block?"""
        return self.filled + BLOCK > self.q.shape[1]

    def draw(self) -> np.ndarray:
        """Random columns of a length around 1: the same whole block however it is split."""
        m = self.operator.m
        block = self._rng.standard_normal((m, BLOCK), dtype=np.float32)
        return block[self.operator.own] / np.float32(np.sqrt(m))

    def extend(self) -> None:
        """Add one block: W made orthonormal, and A times it."""
        known = self.q[:, : self.filled]
        floor = NOISE**2 * self._largest
        block = orthonormal(self.w, known, self.comm, floor, self.draw)
        self.w = self.operator.multiply(self.comm.allgather(block, self.operator.m))
        new = slice(self.filled, self.filled + BLOCK)
        self.filled += BLOCK
        self.multiplied += BLOCK
        self.q[:, new] = block
        near = slice(self._coupled, self.filled)
        self.h[near, new] = project_out(self.w, self.q[:, near], self.comm)
        self.h[new, near] = self.h[near, new].T
        self._coupled = new.start
        self._largest = max(self._largest, self.h.diagonal().max())

    def ritz_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of H, descending, (filled,), and its eigenvectors y (filled, filled)."""
        return agreed_eigh(self.h[: self.filled, : self.filled], self.comm)

    def residuals(self, y: np.ndarray) -> np.ndarray:
        """‖A Q y − θ Q y‖ of Ritz vectors. y: (filled, k). Returns (k,)."""
        last = y[-BLOCK:]
        overlap = self.comm.allreduce(gram(self.w))  # WᵀW
        squares = np.sum(last * (overlap @ last), axis=0)
        return np.sqrt(np.maximum(squares, 0.0))

    def combined(self, y: np.ndarray) -> np.ndarray:
        """This worker's rows of the Ritz vectors Q y, float32."""
        return self.q[:, : self.filled] @ y.astype(np.float32)

    def restart(self, theta: np.ndarray, y: np.ndarray, kept: int) -> None:
        """Keep only the best `kept` Ritz vectors; W follows them."""
        self.q[:, :kept] = self.combined(y[:, :kept])
        self.h[:] = 0.0
        diagonal = np.arange(kept)
        self.h[diagonal, diagonal] = theta[:kept]
        self.filled = kept
        self.restarts += 1
        self._coupled = 0


def has_cluster(theta: np.ndarray) -> bool:
    """Do as many values lie close together as a block has columns? theta: (k,), descending."""
    spans = theta[: 1 - BLOCK] - theta[BLOCK - 1 :]
    return bool((spans <= CLUSTER * theta[0]).any())


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """aᵀb, summed by BLAS in float32, as float64."""
    return (a.T @ b).astype(np.float64)


def gram(w: np.ndarray) -> np.ndarray:
    """wᵀw in float64, (b, b)."""
    double = w.astype(np.float64)
    return double.T @ double


def project_out(w: np.ndarray, known: np.ndarray, comm: Communicator) -> np.ndarray:
    """Make w orthogonal to the columns of `known`, in place; returns knownᵀw from before."""
    removed = comm.allreduce(inner(known, w))
    w -= known @ removed.astype(np.float32)
    return removed


def orthonormal(
    w: np.ndarray, known: np.ndarray, comm: Communicator, floor: float, draw: Draw
) -> np.ndarray:
    """Orthonormal columns that span w and are orthogonal to `known`; random ones replace lost ones.

    w: (rows, b), this worker's rows, orthogonal to `known` up to rounding. floor: a direction
    shorter than this is rounding error. Source: Carson et al. 2021, "The stability of block
    variants of classical Gram-Schmidt", SIAM J. Matrix Anal. Appl. 42: the products among w's
    columns after the projection follow from those before it, which saves an exchange.
    """
    columns = known.shape[1]
    w, _ = stretched(w, comm.allreduce(gram(w)), floor, draw)
    for _ in range(3):
        products = comm.allreduce(np.concatenate([inner(known, w), gram(w)]))
        removed = products[:columns]
        w -= known @ removed.astype(np.float32)
        w, shortest = stretched(w, products[columns:] - removed.T @ removed, NOISE, draw)
        # Most of w was outside `known`: what remains is accurate. Otherwise project once more.
        if shortest > 0.7:
            break
    return w


def stretched(
    w: np.ndarray, products: np.ndarray, floor: float, draw: Draw
) -> tuple[np.ndarray, float]:
    """w (wᵀw)^(-1/2): orthonormal columns that span w, and the shortest length there was.

    w: (rows, b). products: (b, b), wᵀw. Directions up to `floor` long are replaced by drawn ones.
    Lengths may differ a millionfold, hence float64. The root is symmetric, so that it does not
    depend on which eigenvectors a processor finds for equal eigenvalues.
    """
    squares, directions = np.linalg.eigh(products)
    dead = squares <= floor**2
    lengths = np.sqrt(np.where(dead, np.inf, squares))
    inverse_root = (directions / lengths) @ directions.T
    w = (w.astype(np.float64) @ inverse_root).astype(np.float32)
    if dead.any():
        w += draw() @ (directions[:, dead] @ directions[:, dead].T).astype(np.float32)
    return w, float(np.sqrt(max(squares[0], 0.0)))


def agreed_eigh(a: np.ndarray, comm: Communicator) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending, and vectors of a symmetric matrix, as the first worker finds them.

    Processors of different kinds may round differently and then choose different vectors for equal
    values; one worker's choice is everyone's.
    """
    found = np.zeros((len(a) + 1, len(a)))
    if comm.rank == 0:
        found[0], found[1:] = np.linalg.eigh(a)
    found = comm.allreduce(found)[:, ::-1]
    return found[0], found[1:]
