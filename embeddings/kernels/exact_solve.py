"""The exact solution of ALS's row problems: in the fit, in the nightly fold-in and in a request.

    (D + Σ s_j v_j v_jᵀ) u = Σ s_j v_j,   D diagonal

in the axes where the Gram matrix is diagonal (see `conjugate_gradients`). A row of n < k
interactions needs no k x k system: with W = V D^(-1/2) of its n vectors, Woodbury's identity gives
u = D^(-1/2) Wᵀ w, where (S⁻¹ + W Wᵀ) w = 1 is n x n. All in float64, single-threaded, without
Python's lock and without BLAS, whose threads cost a single request more than its solution.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 4  # rows and columns of a product per loop
CHUNK = 256  # interactions of a long row per pass
APART = 8  # padding: rows exactly CHUNK float64 apart would compete for the same cache sets


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def exact_rows(indptr, indices, strengths, vectors, dense, penalties, rows, losses):
    """Solve every row exactly. Arguments as in `cg_rows`, except that `rows` is output only."""
    n, k = rows.shape
    side = 0  # of the largest system
    for i in range(n):
        side = max(side, min(indptr[i + 1] - indptr[i], k))
    # BLOCK more rows and columns, because the products are computed in whole blocks. What is in the
    # padding never reaches a result.
    system = np.zeros((side + BLOCK, side + BLOCK))
    near = np.zeros((max(side, k) + BLOCK, max(CHUNK + APART, k)))
    right = np.empty(max(side, k))
    diagonal = np.empty(k)
    for i in range(n):
        start, stop = indptr[i], indptr[i + 1]
        for f in range(k):
            diagonal[f] = dense[f] + penalties[i]
        problem = (
            indices[start:stop],
            strengths[start:stop],
            vectors,
            diagonal,
            near,
            system,
            right,
            rows[i],
        )
        losses[i] = short_row(*problem) if stop - start < k else long_row(*problem)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def short_row(indices, strengths, vectors, diagonal, near, system, w, u):
    """u = D^(-1/2) Wᵀ w with (S⁻¹ + W Wᵀ) w = 1, for n < k.

    Returns the row's loss, Σ s (1 − u·v) = Σ w. Overwrites diagonal.
    """
    n, k = len(indices), len(u)
    # Square roots first: once per dimension instead of once per interaction.
    for f in range(k):
        diagonal[f] = 1.0 / np.sqrt(diagonal[f])
        u[f] = 0.0
    for j in range(n):
        v = vectors[indices[j]]
        for f in range(k):
            near[j, f] = v[f] * diagonal[f]
    system[: n + BLOCK, : n + BLOCK] = 0.0
    add_gram(near, n, k, system)
    for j in range(n):
        system[j, j] += 1.0 / strengths[j]
        w[j] = 1.0
    solve_in_place(system, w, n)
    loss = 0.0
    for j in range(n):
        loss += w[j]
        for f in range(k):
            u[f] += w[j] * near[j, f] * diagonal[f]
    return loss


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def long_row(indices, strengths, vectors, diagonal, near, system, u64, u):
    """(D + VᵀSV) u = VᵀS 1, for n >= k, in chunks. Returns the row's loss, Σ s - uᵀ VᵀS 1."""
    n, k = len(indices), len(u)
    system[: k + BLOCK, : k + BLOCK] = 0.0
    right = np.zeros(k)
    loss = 0.0
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        for j in range(count):
            v, root = vectors[indices[start + j]], np.sqrt(strengths[start + j])
            loss += strengths[start + j]
            for f in range(k):
                near[f, j] = root * v[f]
                right[f] += root * near[f, j]
        add_gram(near, k, count, system)
    for f in range(k):
        system[f, f] += diagonal[f]
        u64[f] = right[f]
    solve_in_place(system, u64, k)
    for f in range(k):
        loss -= u64[f] * right[f]
        u[f] = u64[f]
    return loss


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_gram(x, n, width, out):
    """Lower triangle of out += x xᵀ for n rows; x and out have BLOCK more rows than that."""
    for i in range(0, n, BLOCK):
        for j in range(0, i + 1, BLOCK):
            add_block(x, i, j, width, 1.0, out)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def solve_in_place(a, b, n):
    """Cholesky: a's lower triangle becomes L with a = L Lᵀ, b becomes a⁻¹ b.

    a has at least n + BLOCK rows and columns.
    """
    for left in range(0, n, BLOCK):
        for i in range(left, n, BLOCK):
            add_block(a, i, left, left, -1.0, a)
        for j in range(left, min(left + BLOCK, n)):
            pivot = a[j, j]
            for f in range(left, j):
                pivot -= a[j, f] * a[j, f]
            a[j, j] = np.sqrt(pivot)
            scale = 1.0 / a[j, j]
            for i in range(j + 1, n):
                entry = a[i, j]
                for f in range(left, j):
                    entry -= a[i, f] * a[j, f]
                a[i, j] = entry * scale
    for i in range(n):
        for j in range(i):
            b[i] -= a[i, j] * b[j]
        b[i] /= a[i, i]
    for i in range(n - 1, -1, -1):
        b[i] /= a[i, i]
        for j in range(i):
            b[j] -= a[i, j] * b[i]


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_block(x, i, j, width, sign, out):
    """out[i:i+4, j:j+4] += sign · x[i:i+4, :width] x[j:j+4, :width]ᵀ, sixteen sums per pass."""
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = 0.0
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = 0.0
    for f in range(width):
        x0, x1, x2, x3 = x[i, f], x[i + 1, f], x[i + 2, f], x[i + 3, f]
        y = x[j, f]
        s00, s10, s20, s30 = s00 + x0 * y, s10 + x1 * y, s20 + x2 * y, s30 + x3 * y
        y = x[j + 1, f]
        s01, s11, s21, s31 = s01 + x0 * y, s11 + x1 * y, s21 + x2 * y, s31 + x3 * y
        y = x[j + 2, f]
        s02, s12, s22, s32 = s02 + x0 * y, s12 + x1 * y, s22 + x2 * y, s32 + x3 * y
        y = x[j + 3, f]
        s03, s13, s23, s33 = s03 + x0 * y, s13 + x1 * y, s23 + x2 * y, s33 + x3 * y
    add_row(out, i, j, sign, s00, s01, s02, s03)
    add_row(out, i + 1, j, sign, s10, s11, s12, s13)
    add_row(out, i + 2, j, sign, s20, s21, s22, s23)
    add_row(out, i + 3, j, sign, s30, s31, s32, s33)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_row(out, i, j, sign, a, b, c, d):
    out[i, j] += sign * a
    out[i, j + 1] += sign * b
    out[i, j + 2] += sign * c
    out[i, j + 3] += sign * d
