"""The exact solution of ALS's row problems: for the fit, for everybody left out of it, and for a single request.

    (D + Σ s_j v_j v_jᵀ) u = Σ s_j v_j,   D diagonal

in the axes where the Gram matrix is diagonal (see als_kernels). A row of n < k interactions needs no k x k system: with
the row's vectors as V (n, k), Woodbury's identity gives u = D⁻¹ Vᵀ w, where (S⁻¹ + V D⁻¹ Vᵀ) w = 1 is n x n.
Everything in float64, single-threaded, without BLAS and without Python's lock.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CHUNK = 256  # interactions of a long row that are taken at once


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def exact_rows(indptr, indices, strengths, vectors, dense, penalties, rows, losses):
    """Solve every row exactly. Arguments as in als_kernels.cg_rows, but for the start: `rows` is only written."""
    n, k = rows.shape
    side = 0
    for i in range(n):
        side = max(side, min(indptr[i + 1] - indptr[i], k))
    system = np.empty((side, side))
    near = np.empty((max(side, k), max(CHUNK, k)))
    diagonal, right = np.empty(k), np.empty(max(side, k))
    for i in range(n):
        start, stop = indptr[i], indptr[i + 1]
        u = rows[i]
        losses[i] = 0.0
        if start == stop:
            u[:] = 0.0
            continue
        for f in range(k):
            diagonal[f] = dense[f] + penalties[i]
        if stop - start < k:
            short_row(indices[start:stop], strengths[start:stop], vectors, diagonal, near, system, right, u)
        else:
            long_row(indices[start:stop], strengths[start:stop], vectors, diagonal, near, system, right, u)
        for j in range(start, stop):  # at the solution the loss is Σ s (1 - u·v)
            product = 0.0
            for f in range(k):
                product += np.float64(u[f]) * vectors[indices[j], f]
            losses[i] += strengths[j] * (1.0 - product)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def short_row(indices, strengths, vectors, diagonal, near, system, right, u):
    """u = D⁻¹ Vᵀ w with (S⁻¹ + V D⁻¹ Vᵀ) w = 1, for n < k."""
    n, k = len(indices), len(u)
    for f in range(k):
        u[f] = 1.0 / np.sqrt(diagonal[f])
    for j in range(n):
        for f in range(k):
            near[j, f] = vectors[indices[j], f] / np.sqrt(diagonal[f])
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for f in range(k):
                total += near[i, f] * near[j, f]
            system[i, j] = total
        system[i, i] += 1.0 / strengths[i]
        right[i] = 1.0
    solve_in_place(system, right, n)
    for f in range(k):
        total = 0.0
        for j in range(n):
            total += right[j] * near[j, f]
        u[f] = total / np.sqrt(diagonal[f])


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def long_row(indices, strengths, vectors, diagonal, near, system, right, u):
    """(D + VᵀSV) u = VᵀS 1, for n >= k, some interactions at a time."""
    n, k = len(indices), len(u)
    for f in range(k):
        system[f, :k] = 0.0
        system[f, f] = diagonal[f]
        right[f] = 0.0
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        for j in range(count):
            root = np.sqrt(strengths[start + j])
            for f in range(k):
                near[f, j] = root * vectors[indices[start + j], f]
                right[f] += root * near[f, j]
        for f in range(k):
            for g in range(f + 1):
                total = 0.0
                for j in range(count):
                    total += near[f, j] * near[g, j]
                system[f, g] += total
    solve_in_place(system, right, k)
    for f in range(k):
        u[f] = right[f]


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def solve_in_place(a, b, n):
    """Cholesky: a's lower triangle becomes L with a = L Lᵀ, b becomes a⁻¹ b. a: (n, n) or larger, b: (n,) or longer."""
    for j in range(n):
        pivot = a[j, j]
        for f in range(j):
            pivot -= a[j, f] * a[j, f]
        a[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            total = a[i, j]
            for f in range(j):
                total -= a[i, f] * a[j, f]
            a[i, j] = total / a[j, j]
    for i in range(n):
        for j in range(i):
            b[i] -= a[i, j] * b[j]
        b[i] /= a[i, i]
    for i in range(n - 1, -1, -1):
        b[i] /= a[i, i]
        for j in range(i):
            b[j] -= a[i, j] * b[i]
