"""Truncated SVD of the normalised consumer-producer matrix by block Lanczos, and the vectors made of it.

The matrix never leaves its rows: every member of a group multiplies its own by XᵀX in one pass over their non-zeros
(no transpose is stored), and one (n_producers, block) array is summed a step. The basis is split by producers, so the
dense algebra is shared out too. Source: Golub & Underwood 1977, "The block Lanczos method for computing eigenvalues";
Wu & Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix Anal. 22.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.kernels.communicator import Group, empty, own, together
from embeddings.kernels.simd import LANES, fma, load, splat, store

Multiply = Callable[[np.ndarray], np.ndarray]
Draw = Callable[[], np.ndarray]
Progress = Callable[
    [int, np.ndarray], None
]  # columns multiplied so far, relative residuals (k,) descending by value

TOLERANCE = 5e-3  # ‖XᵀXv − σ²v‖ / σ₁²; where σ² is well above it, its own error is of the order of the square
FINEST = 1e-7  # a smaller residual may not be reached in float32
BLOCK = LANES  # columns multiplied at a time: a gathered row is one cache line
ZERO, ONE = np.float32(0), np.float32(1)
NOISE = 1e-3  # of σ₁: float32 tells σ² to 1e-7 of σ₁², so nothing below this is known
CLUSTER = 1e-3  # of σ₁²: values that lie nearer to each other may be copies of one


@dataclass(frozen=True)
class Factors:
    """What one factorisation leaves behind. k columns everywhere, strongest direction first."""

    consumers: np.ndarray  # (n_consumers, k) float32, U√Σ
    producers: np.ndarray  # (n_producers, k) float32, V√Σ
    fold_in: np.ndarray  # (n_producers, k) float32, V Σ^(-1/2)
    singular_values: np.ndarray  # (k,) float64, descending


def factorize(
    x: sp.csr_matrix, k: int, seed: int = 0, threads: int = 1, tolerance: float = TOLERANCE
) -> Factors:
    """Embed both sides, consumers U√Σ and producers V√Σ: their dot product approximates x. V Σ^(-1/2) folds in.

    x: (n_consumers, n_producers), normalised. Source: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with
    Embeddings", matrix factorisation.
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
    """σ (k,) descending and V (m, k) of the whole matrix, in this process; see `leading`. U = X V Σ^(-1)."""
    cuts = np.searchsorted(x.indptr, np.linspace(0, x.nnz, threads + 1)[1:-1])
    bounds = [0, *cuts.tolist(), x.shape[0]]

    def work(group: Group) -> tuple[np.ndarray, np.ndarray]:
        return leading(
            rows_of(x, bounds[group.rank], bounds[group.rank + 1]), k, group, seed, tolerance
        )

    return together(threads, work)[0]


def rows_of(x: sp.csr_matrix, start: int, stop: int) -> sp.csr_matrix:
    """x[start:stop] without a copy of its entries."""
    entries = slice(x.indptr[start], x.indptr[stop])
    indptr = x.indptr[start : stop + 1] - x.indptr[start]
    return sp.csr_matrix(
        (x.data[entries], x.indices[entries], indptr), shape=(stop - start, x.shape[1])
    )


def leading(
    x: sp.csr_matrix,
    k: int,
    group: Group,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest singular values, descending, and their right vectors: σ (k,) float64 and V (m, k) float32.

    x: this member's rows; together the members' rows are the matrix, (n, m). Stops when every wanted pair has
    ‖XᵀXv − σ²v‖ <= tolerance · σ₁². Where the matrix has fewer than k directions the rest are zero columns, so the
    width never depends on the day. Signs are fixed (the largest entry of each column of V is positive) and the start
    is seeded: same input and group size, same result. Every member returns the same. Raises ValueError for a tolerance
    below FINEST and for entries that are not finite or so large that their squares are not.
    """
    if tolerance < FINEST:
        raise ValueError(
            f"A tolerance of {tolerance:g} cannot be kept in float32; take at least {FINEST:g}."
        )
    m = x.shape[1]
    mine, multiply = own(m, group), gram_of(x, group)
    if m <= basis_size(k):  # the basis would span everything
        theta, vectors = agreed_eigen(group.gather(multiply(np.eye(m)), m), group)
        theta, rows = theta[:k], vectors[mine, :k].astype(np.float32)
    else:
        theta, rows = lanczos(multiply, m, mine, k, group, seed, tolerance, progress)
    sigma = np.sqrt(np.maximum(theta, 0.0))
    known = sigma > NOISE * max(sigma.max(initial=0.0), 1e-300)
    rows *= (signs(rows, group) * known).astype(np.float32)
    engaged = np.zeros(m, np.float32)
    engaged[x.indices[x.data != 0]] = 1
    rows[group.sum_own(engaged) == 0] = (
        0  # of a producer that nobody has, only the random start is left
    )
    v, missing = group.gather(rows, m), k - len(sigma)
    return np.pad(sigma * known, (0, missing)), np.pad(v, ((0, 0), (0, missing))) if missing else v


def signs(rows: np.ndarray, group: Group) -> np.ndarray:
    """±1 a column, which makes its largest entry positive. rows: (own producers, k)."""
    k = np.arange(rows.shape[1])
    largest = rows[np.abs(rows).argmax(axis=0), k] if len(rows) else np.zeros(len(k))
    every = group.gather(largest[None].astype(np.float32), group.size)
    return np.where(every[np.abs(every).argmax(axis=0), k] < 0, -1.0, 1.0)


def basis_size(k: int) -> int:
    """Columns of the Krylov basis before it is restarted."""
    return max(4 * BLOCK, 2 * k + 2 * BLOCK)


def lanczos(
    multiply: Multiply,
    m: int,
    mine: slice,
    k: int,
    group: Group,
    seed: int,
    tolerance: float,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues (k,) of the operator A behind `multiply`, descending, and rows `mine` of their vectors.

    Block Lanczos with full re-orthogonalisation: A Q = Q H + W Eᵀ, H = QᵀAQ kept whole, W orthogonal to Q. A Ritz pair
    (θ, Q y) then has the residual ‖W y_last‖. A full basis is restarted from its best Ritz vectors, followed by W.
    Of one value a block meets as many copies as it has columns: where that many values lie close together, the search
    goes on from a new random block until it finds no more of them.
    """
    rng = np.random.default_rng(seed)

    def draw() -> np.ndarray:  # the same everywhere, of a length around 1
        return rng.standard_normal((m, BLOCK), dtype=np.float32)[mine] / np.float32(np.sqrt(m))

    basis = np.empty((mine.stop - mine.start, basis_size(k)), dtype=np.float32, order="F")
    h = np.zeros((basis.shape[1], basis.shape[1]))
    filled = multiplied = coupled = (
        0  # coupled: A's new block is orthogonal to what lies before it, but for rounding
    )
    w, length, look_at, pause = draw(), 0.0, k, max(2 * BLOCK, k // 10)
    found = np.full(k, np.inf)  # the values that were known when the search went on
    while True:
        block = orthonormal(w, basis[:, :filled], group, NOISE**2 * length, draw)
        w = multiply(group.gather(block, m))
        new, filled, multiplied = slice(filled, filled + BLOCK), filled + BLOCK, multiplied + BLOCK
        basis[:, new] = block
        near = slice(coupled, filled)
        h[near, new] = project_out(w, basis[:, near], group)
        h[new, near] = h[near, new].T
        coupled = new.start
        length = max(length, h.diagonal().max())
        full = filled + BLOCK > basis.shape[1]
        if filled < look_at and not full:
            continue
        theta, y = agreed_eigen(h[:filled, :filled], group)
        residuals = residuals_of(y[-BLOCK:, :k], group.sum(gram(w))) / max(theta[0], 1e-300)
        if progress:
            progress(multiplied, residuals)
        search = clustered(theta[:k]) and np.abs(theta[:k] - found).max() > CLUSTER * theta[0]
        converged = residuals.max() <= (tolerance / 4 if search else tolerance)
        if converged and not search:
            return theta[:k], basis[:, :filled] @ y[:, :k].astype(np.float32)
        if converged:  # W goes, and with it a residual that later looks do not see: it was small
            found, w = theta[:k], draw()
        if full or converged:
            kept = k if converged else k + BLOCK
            basis[:, :kept] = basis[:, :filled] @ y[:, :kept].astype(np.float32)
            h[:], filled = 0.0, kept
            h[np.arange(kept), np.arange(kept)] = theta[:kept]
            coupled = 0
        look_at = filled + pause


def clustered(theta: np.ndarray) -> bool:
    """Whether as many values lie close together as a block has columns. theta: (k,), descending."""
    return bool((theta[: 1 - BLOCK] - theta[BLOCK - 1 :] <= CLUSTER * theta[0]).any())


def residuals_of(last: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """‖W y_last‖ of every Ritz vector. last: (b, k), the end of each y. overlap: (b, b), WᵀW. Returns (k,)."""
    return np.sqrt(np.maximum(np.sum(last * (overlap @ last), axis=0), 0.0))


def gram_of(x: sp.csr_matrix, group: Group) -> Multiply:
    """q (m, b) -> this member's rows of XᵀX q, (own, b) in the type of q. float32 comes in blocks of BLOCK."""

    def multiply(q: np.ndarray) -> np.ndarray:
        partial = empty(q.shape, q.dtype)
        partial[:] = 0
        add = add_gram_block if q.dtype == np.float32 else add_gram_product
        add(x.indptr, x.indices, x.data.astype(q.dtype, copy=False), q, partial)
        mine = group.sum_own(partial)
        if not np.isfinite(mine).all():
            raise ValueError(
                "Entries are not finite, or so large that their squares are not: normalise the matrix."
            )
        return mine

    return multiply


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_gram_block(indptr, indices, values, q, out):
    """out += Xᵀ(X q) for q (m, LANES) float32: a row's product never leaves its register."""
    for i in range(len(indptr) - 1):
        start, stop = indptr[i], indptr[i + 1]
        even, odd = splat(ZERO), splat(ZERO)
        for t in range(start, stop - 1, 2):
            even = fma(splat(values[t]), load(q, (indices[t], 0)), even)
            odd = fma(splat(values[t + 1]), load(q, (indices[t + 1], 0)), odd)
        if (stop - start) % 2:
            even = fma(splat(values[stop - 1]), load(q, (indices[stop - 1], 0)), even)
        product = fma(splat(ONE), odd, even)
        for t in range(start, stop):
            store(out, (indices[t], 0), fma(splat(values[t]), product, load(out, (indices[t], 0))))


@njit(nogil=True, fastmath=True, cache=True)
def add_gram_product(indptr, indices, values, q, out):
    """The same for any width and type, of small matrices."""
    width = q.shape[1]
    product = np.empty(width, q.dtype)
    for i in range(len(indptr) - 1):
        product[:] = 0
        for t in range(indptr[i], indptr[i + 1]):
            for c in range(width):
                product[c] += values[t] * q[indices[t], c]
        for t in range(indptr[i], indptr[i + 1]):
            for c in range(width):
                out[indices[t], c] += values[t] * product[c]


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """aᵀb, summed in float32 by BLAS, in float64."""
    return (a.T @ b).astype(np.float64)


def project_out(w: np.ndarray, known: np.ndarray, group: Group) -> np.ndarray:
    """Make w orthogonal to the columns of known, in place; returns what was taken out, knownᵀw."""
    taken = group.sum(inner(known, w))
    w -= known @ taken.astype(np.float32)
    return taken


def orthonormal(
    w: np.ndarray, known: np.ndarray, group: Group, floor: float, draw: Draw
) -> np.ndarray:
    """Orthonormal columns that span w and are orthogonal to known; new ones where w has run out of directions.

    w: (rows, b), this member's rows, orthogonal to known but for rounding. floor: a shorter direction is rounding.
    Source: Carson et al. 2021, "The stability of block variants of classical Gram-Schmidt", SIAM J. Matrix Anal. 42,
    where the products among w's columns after the projection follow from those before it.
    """
    columns = known.shape[1]
    w, _ = stretched(w, group.sum(gram(w)), floor, draw)
    for _ in range(3):
        products = group.sum(np.concatenate([inner(known, w), gram(w)]))
        taken = products[:columns]
        w -= known @ taken.astype(np.float32)
        w, shortest = stretched(w, products[columns:] - taken.T @ taken, NOISE, draw)
        if (
            shortest > 0.7
        ):  # hardly anything of it lay in known; else what is left is rounded too coarsely
            break
    return w


def stretched(
    w: np.ndarray, products: np.ndarray, floor: float, draw: Draw
) -> tuple[np.ndarray, float]:
    """w (wᵀw)^(-1/2): orthonormal columns that span w (rows, b). Drawn ones instead of directions up to `floor` long.

    products: (b, b), wᵀw. Also returns the shortest length. Lengths may lie a millionfold apart: computed in float64.
    The root is symmetric, so it does not depend on which eigenvectors a processor finds for equal eigenvalues.
    """
    squares, directions = np.linalg.eigh(products)
    dead = squares <= floor**2
    root = (directions / np.sqrt(np.where(dead, np.inf, squares))) @ directions.T
    w = (w.astype(np.float64) @ root).astype(np.float32)
    if dead.any():
        w += draw() @ (directions[:, dead] @ directions[:, dead].T).astype(np.float32)
    return w, float(np.sqrt(max(squares[0], 0.0)))


def gram(w: np.ndarray) -> np.ndarray:
    """wᵀw in float64, (b, b)."""
    double = w.astype(np.float64)
    return double.T @ double


def agreed_eigen(a: np.ndarray, group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending, and vectors of a symmetric matrix, as the first member finds them.

    Processors of two kinds may round differently, and then pick different vectors for equal values.
    """
    found = np.zeros((len(a) + 1, len(a)))
    if group.rank == 0:
        found[0], found[1:] = np.linalg.eigh(a)
    found = group.sum(found)[:, ::-1]
    return found[0], found[1:]
