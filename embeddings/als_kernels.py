"""The inner loops of ALS: many small regularised least squares problems, each with a diagonal dense part.

A row with strengths s_j on the vectors v_j has to solve A u = b with

    A = α0 G + λ_i I + Σ s_j v_j v_jᵀ,   b = Σ s_j v_j,   G = VᵀV over all columns.

The kernels are given the vectors in the axes where G is diagonal: α0 G + λ_i I is then the diagonal d, the same but for
λ_i in every row. No k x k product is needed for the dense part, and 1/d is a preconditioner that costs nothing.
Single-threaded and free of Python's lock; whoever wants more cores gives each thread its own rows.
"""

from __future__ import annotations

import numpy as np
from numba import njit

AT_ONCE = 4  # rows or columns that one inner loop carries, so that sums of products do not wait for each other


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def cg_rows(indptr, indices, strengths, vectors, dense, penalties, steps, rows, losses):
    """Improve every row by `steps` steps of conjugate gradients, preconditioned by d; the row given is the start.

    indptr (n + 1,), indices (nnz,), strengths (nnz,) f32: the interactions. vectors (m, k) f32: the other side.
    dense (k,) f32: α0 times the eigenvalues of G. penalties (n,) f32: λ_i. rows (n, k) f32: start, then solution; zeros
    for a row without interactions. losses (n,) f64, out: Σ s (u·v - 1)² + uᵀ d u of each row at its solution.
    Source: Hestenes & Stiefel 1952; for ALS: Takács, Pilászy, Tikk 2011, "Applications of the conjugate gradient
    method for implicit feedback collaborative filtering", RecSys.
    """
    n, k = rows.shape
    near, weights = gathered(indptr, n, k)
    residual, direction, image, diagonal = np.empty((4, k), np.float32)
    for i in range(n):
        u = rows[i]
        start, stop = indptr[i], indptr[i + 1]
        if start == stop:
            u[:] = 0.0
            losses[i] = 0.0
            continue
        count = gather(indices[start:stop], strengths[start:stop], vectors, near, weights)
        for f in range(k):
            diagonal[f] = dense[f] + penalties[i]
            residual[f] = 0.0
        loss = add_residual(near, weights, count, u, residual)
        slope = np.float32(0.0)
        for f in range(k):
            loss += diagonal[f] * u[f] * u[f]
            residual[f] -= diagonal[f] * u[f]
            direction[f] = residual[f] / diagonal[f]
            slope += residual[f] * direction[f]
        for _ in range(steps):
            if slope <= np.float32(1e-30):
                break
            for f in range(k):
                image[f] = diagonal[f] * direction[f]
            add_image(near, weights, count, direction, image)
            curvature = np.float32(0.0)
            for f in range(k):
                curvature += direction[f] * image[f]
            length = slope / curvature
            loss -= length * slope
            next_slope = np.float32(0.0)
            for f in range(k):
                u[f] += length * direction[f]
                residual[f] -= length * image[f]
                next_slope += residual[f] * residual[f] / diagonal[f]
            turn = next_slope / slope
            slope = next_slope
            for f in range(k):
                direction[f] = residual[f] / diagonal[f] + turn * direction[f]
        losses[i] = loss


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def gathered(indptr, n, k):
    """Room for the longest row: its vectors, and their weights."""
    longest = 0
    for i in range(n):
        longest = max(longest, indptr[i + 1] - indptr[i])
    room = longest + AT_ONCE
    return np.empty((room, k), np.float32), np.empty(room, np.float32)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def gather(indices, strengths, vectors, near, weights):
    """Copy a row's vectors and strengths side by side, then zeros up to a multiple of AT_ONCE. Returns how many."""
    count = len(indices)
    padded = (count + AT_ONCE - 1) // AT_ONCE * AT_ONCE
    for j in range(count):
        v = vectors[indices[j]]
        for f in range(len(v)):
            near[j, f] = v[f]
        weights[j] = strengths[j]
    near[count:padded] = 0.0
    weights[count:padded] = 0.0
    return padded


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_image(near, weights, count, p, out):
    """out += Σ s_j (v_j·p) v_j. near: (count, k); p, out: (k,)."""
    for j in range(0, count, 4):
        d0 = d1 = d2 = d3 = np.float32(0.0)
        for f in range(len(p)):
            d0 += near[j, f] * p[f]
            d1 += near[j + 1, f] * p[f]
            d2 += near[j + 2, f] * p[f]
            d3 += near[j + 3, f] * p[f]
        d0 *= weights[j]
        d1 *= weights[j + 1]
        d2 *= weights[j + 2]
        d3 *= weights[j + 3]
        for f in range(len(p)):
            out[f] += d0 * near[j, f] + d1 * near[j + 1, f] + d2 * near[j + 2, f] + d3 * near[j + 3, f]


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_residual(near, weights, count, u, out):
    """out += Σ s_j (1 - v_j·u) v_j. Returns Σ s_j (1 - v_j·u)²."""
    loss = np.float32(0.0)
    one = np.float32(1.0)
    for j in range(0, count, 4):
        d0 = d1 = d2 = d3 = np.float32(0.0)
        for f in range(len(u)):
            d0 += near[j, f] * u[f]
            d1 += near[j + 1, f] * u[f]
            d2 += near[j + 2, f] * u[f]
            d3 += near[j + 3, f] * u[f]
        w0, w1 = weights[j] * (one - d0), weights[j + 1] * (one - d1)
        w2, w3 = weights[j + 2] * (one - d2), weights[j + 3] * (one - d3)
        loss += w0 * (one - d0) + w1 * (one - d1) + w2 * (one - d2) + w3 * (one - d3)
        for f in range(len(u)):
            out[f] += w0 * near[j, f] + w1 * near[j + 1, f] + w2 * near[j + 2, f] + w3 * near[j + 3, f]
    return loss
