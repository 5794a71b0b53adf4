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
Progress = Callable[[int, np.ndarray], None]  # columns multiplied so far, relative residuals (k,)

NOISE = 1e-3  # of σ₁: float32 resolves σ² to 1e-7 of σ₁², so a smaller σ is rounding error
CLUSTER = 1e-3  # of σ₁²: eigenvalues closer than this may be copies of one
MAX_RESTARTS = 300  # the matrices of real logs need fewer than ten


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
    """The k largest eigenvalues, descending, and this worker's rows of their eigenvectors.

    Returns (k,) float64 and (own rows, k) float32. k < operator.m. Stops when every pair has
    ‖Av − θv‖ <= tolerance · θ₁. A block finds at most as many copies of an eigenvalue as it has
    columns. Where that many eigenvalues are close together, the search therefore continues from a
    new random block until it finds no more of them. Raises NotConverged after MAX_RESTARTS.
    """
    basis = Basis(operator, k, seed)
    # Checking the residuals costs an eigendecomposition of H, so not every block is checked.
    pause = max(2 * BLOCK, k // 10)  # columns between two checks
    next_check = k
    known = np.full(k, np.inf)  # the eigenvalues at the start of the last search for copies
    while True:
        basis.extend()
        if basis.filled < next_check and not basis.full:
            continue
        theta, y = basis.ritz_pairs()
        residuals = basis.residuals(y[:, :k]) / max(theta[0], 1e-300)
        if progress:
            progress(basis.multiplied, residuals)
        moved = np.abs(theta[:k] - known).max() > CLUSTER * theta[0]
        search = has_cluster(theta[:k]) and moved
        # A search drops W, and with it the residuals of these pairs: later checks cannot see them,
        # so they must be well below the tolerance first.
        converged = residuals.max() <= (tolerance / 4 if search else tolerance)
        if converged and not search:
            return theta[:k], basis.combined(y[:, :k])
        if converged:
            known = theta[:k]
            basis.restart(theta, y, k)
            # W would continue the same Krylov space, which holds no further copies.
            basis.w = basis.draw()
        elif basis.full:
            basis.restart(theta, y, k + BLOCK)
        if basis.restarts > MAX_RESTARTS:
            raise NotConverged(
                f"The eigensolver did not converge within {MAX_RESTARTS} restarts "
                f"({basis.multiplied} columns multiplied): the largest residual is "
                f"{residuals.max():.2g}, wanted {tolerance:g}. Raise the tolerance, or lower the "
                "number of dimensions."
            )
        next_check = basis.filled + pause


class Basis:
    """An orthonormal basis Q that grows block by block: A Q = Q H + W Eᵀ, with W orthogonal to Q.

    Every block is orthogonalised against all earlier ones, and H = QᵀAQ is stored in full. A Ritz
    pair (θ, Q y) then has the residual norm ‖W y_last‖, where y_last is the part of y that belongs
    to the newest block, and E selects that block.
    """

    def __init__(self, operator: Operator, k: int, seed: int) -> None:
        self.operator = operator
        self.comm = operator.comm
        own = operator.own
        columns = capacity(k)
        # Column-major: the columns filled so far are then one contiguous piece for BLAS.
        self.q = np.empty((own.stop - own.start, columns), dtype=np.float32, order="F")
        self.h = np.zeros((columns, columns))
        self.filled = 0  # columns of Q so far
        self.multiplied = 0  # columns multiplied by A since the beginning
        self.restarts = 0
        # A times the next block is orthogonal to the columns before this one, up to rounding. It is
        # the start of the newest block, but 0 directly after a restart.
        self._coupled = 0
        self._largest = 0.0  # the largest diagonal entry of H so far
        self._rng = np.random.default_rng(seed)
        self.w = self.draw()  # the next block, before it is made orthonormal

    @property
    def full(self) -> bool:
        """Is there no room for another block?"""
        return self.filled + BLOCK > self.q.shape[1]

    def draw(self) -> np.ndarray:
        """Random columns with a norm around 1, this worker's rows (own rows, BLOCK) float32."""
        m = self.operator.m
        # Every worker draws the whole block: its values do not depend on the number of workers.
        block = self._rng.standard_normal((m, BLOCK), dtype=np.float32)
        return block[self.operator.own] / np.float32(np.sqrt(m))

    def extend(self) -> None:
        """Append one block, W orthonormalised, and set W to the remainder of A times it."""
        known = self.q[:, : self.filled]
        floor = NOISE**2 * self._largest  # squared, because W is in the units of A, σ²
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
        return np.sqrt(np.maximum(squares, 0.0))  # rounding can make a zero negative

    def combined(self, y: np.ndarray) -> np.ndarray:
        """This worker's rows of the Ritz vectors Q y, (own rows, k) float32. y: (filled, k)."""
        return self.q[:, : self.filled] @ y.astype(np.float32)

    def restart(self, theta: np.ndarray, y: np.ndarray, kept: int) -> None:
        """Replace the basis by its best `kept` Ritz vectors; W stays the next block."""
        self.q[:, :kept] = self.combined(y[:, :kept])
        self.h[:] = 0.0
        diagonal = np.arange(kept)
        self.h[diagonal, diagonal] = theta[:kept]
        self.filled = kept
        self.restarts += 1
        self._coupled = 0


def has_cluster(theta: np.ndarray) -> bool:
    """Are as many eigenvalues close together as a block has columns? theta: (k,), descending."""
    spans = theta[: 1 - BLOCK] - theta[BLOCK - 1 :]
    return bool((spans <= CLUSTER * theta[0]).any())


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """aᵀb, summed by BLAS in float32, as float64."""
    return (a.T @ b).astype(np.float64)


def gram(w: np.ndarray) -> np.ndarray:
    """wᵀw, (b, b), summed in float64: the columns of w may differ a millionfold in length."""
    double = w.astype(np.float64)
    return double.T @ double


def project_out(w: np.ndarray, known: np.ndarray, comm: Communicator) -> np.ndarray:
    """Make w orthogonal to the columns of `known`, in place.

    w: (rows, b), known: (rows, c), this worker's rows. Returns knownᵀw before the change, (c, b).
    """
    removed = comm.allreduce(inner(known, w))
    w -= known @ removed.astype(np.float32)
    return removed


def orthonormal(
    w: np.ndarray, known: np.ndarray, comm: Communicator, floor: float, draw: Draw
) -> np.ndarray:
    """Orthonormal columns that span w and are orthogonal to `known`, (rows, b).

    Random directions replace those that w lacks. w: (rows, b), this worker's rows, orthogonal to
    `known` up to rounding. floor: a direction shorter than this is rounding error. Source: Carson
    et al. 2021, "The stability of block variants of classical Gram-Schmidt", SIAM J. Matrix Anal.
    Appl. 42: the products among w's columns after the projection follow from those before it, which
    saves an exchange.
    """
    n_known = known.shape[1]
    w, _ = stretched(w, comm.allreduce(gram(w)), floor, draw)
    # Projecting magnifies the rounding error of whatever was mostly inside `known`.
    for _ in range(3):
        products = comm.allreduce(np.concatenate([inner(known, w), gram(w)]))
        removed = products[:n_known]
        w -= known @ removed.astype(np.float32)
        w, shortest = stretched(w, products[n_known:] - removed.T @ removed, NOISE, draw)
        # The columns had length 1. If most of each is left, the rest is accurate enough.
        if shortest > 0.7:
            break
    return w


def stretched(
    w: np.ndarray, products: np.ndarray, floor: float, draw: Draw
) -> tuple[np.ndarray, float]:
    """w (wᵀw)^(-1/2): orthonormal columns that span w, and the length of the shortest direction.

    w: (rows, b), this worker's rows. products: (b, b), wᵀw over all workers. Directions no longer
    than `floor` are replaced by drawn ones. Computed in float64, because lengths may differ a
    millionfold.
    """
    squares, directions = np.linalg.eigh(products)
    dead = squares <= floor**2
    lengths = np.sqrt(np.where(dead, np.inf, squares))
    # The symmetric root is unique: every worker computes the same one, whichever eigenvectors its
    # processor finds for equal eigenvalues.
    inverse_root = (directions / lengths) @ directions.T
    w = (w.astype(np.float64) @ inverse_root).astype(np.float32)
    if dead.any():
        w += draw() @ (directions[:, dead] @ directions[:, dead].T).astype(np.float32)
    return w, float(np.sqrt(max(squares[0], 0.0)))


def agreed_eigh(a: np.ndarray, comm: Communicator) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending, (n,), and eigenvectors (n, n) of a symmetric matrix.

    The first worker computes them for all: processors of different kinds may round differently and
    then choose different eigenvectors for equal eigenvalues.
    """
    solution = np.zeros((len(a) + 1, len(a)))  # the eigenvalues, then the eigenvectors
    if comm.rank == 0:
        solution[0], solution[1:] = np.linalg.eigh(a)
    # The other workers add zeros. eigh sorts ascending, hence the reversal.
    solution = comm.allreduce(solution)[:, ::-1]
    return solution[0], solution[1:]
