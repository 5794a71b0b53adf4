"""The inner loop of ALS: many small regularised least squares problems with a diagonal dense part.

A row with strengths s_j on the vectors v_j solves A u = b with

    A = α0 G + λ_i I + Σ s_j v_j v_jᵀ,   b = Σ s_j v_j,   G = VᵀV over all columns.

The vectors are given in the axes where G is diagonal: α0 G + λ_i I is then a diagonal d, which
differs between rows only by λ_i. No row needs a k x k product for the dense part, and 1/d is a
preconditioner at no cost. With it, three steps from zero suffice for a first iteration: on
KuaiRand's clicks the loss then follows the exact solver's to 1 % for α0 >= 0.01 (6 % for 0.001; two
steps lag by 3 % and 23 %). Single-threaded and without Python's lock: to use more cores, give each
thread its own rows. Here k is a multiple of LANES; columns beyond the true width are zeros.

The loops use explicit vectors of sixteen floats (`simd`): as LLVM vectorises them they take 1.8
times as long, because they split cache lines, check for aliases in every row and do not prefetch.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embeddings.kernels.simd import LANES, empty_aligned, fma, load, prefetch, splat, store, total

# Vectors per loop. The loops are unrolled by hand, so that no sum waits for the one before.
AT_ONCE = 4
AHEAD = 8  # how many vectors before its use a vector is fetched from memory
ZERO, ONE = np.float32(0.0), np.float32(1.0)
SOLVED = np.float32(1e-30)  # residualᵀ d⁻¹ residual up to which a row counts as solved


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def cg_rows(indptr, indices, strengths, vectors, dense, penalties, steps, rows, losses):
    """Improve every row by `steps` conjugate gradient steps, preconditioned by d.

    indptr (n + 1,), indices (nnz,), strengths (nnz,) f32: the interactions. vectors (m, k) f32: the
    other side. dense (k,) f32: α0 times the eigenvalues of G. penalties (n,) f32: λ_i. rows (n, k)
    f32: start, then solution; zeros for a row without interactions. losses (n,) f64, output:
    Σ s (u·v - 1)² + uᵀ d u of each row at its solution.
    Sources: Hestenes, Stiefel 1952; Takács, Pilászy, Tikk 2011, "Applications of the conjugate
    gradient method for implicit feedback collaborative filtering", RecSys.
    """
    n, k = rows.shape
    longest = 0
    for i in range(n):
        longest = max(longest, indptr[i + 1] - indptr[i])
    # Scratch space for the longest row, allocated once.
    near = empty_aligned(longest + AT_ONCE, k)
    weights = np.empty(longest + AT_ONCE, np.float32)
    scratch = empty_aligned(5, k)
    diagonal = scratch[0]
    inverse = scratch[1]
    residual = scratch[2]
    direction = scratch[3]
    image = scratch[4]
    for i in range(n):
        u = rows[i]
        near_by = indices[indptr[i] : indptr[i + 1]]
        if len(near_by) == 0:
            u[:] = 0.0
            losses[i] = 0.0
            continue
        for f in range(k):
            diagonal[f] = dense[f] + penalties[i]
            inverse[f] = ONE / diagonal[f]
        weigh(strengths[indptr[i] : indptr[i + 1]], weights)
        residual[:] = ZERO
        loss = start(near_by, weights, vectors, u, near, residual) + multiply(diagonal, u, image)
        add(-ONE, image, residual)
        slope = multiply(inverse, residual, direction)
        for _ in range(steps):
            if slope <= SOLVED:
                break  # a further step would divide zero by zero
            multiply(diagonal, direction, image)
            add_image(near, weights, len(near_by), direction, image)
            length = slope / dot(direction, image)
            # A step lowers the quadratic by length · slope: no further pass over the vectors.
            loss -= length * slope
            add(length, direction, u)
            add(-length, image, residual)
            before = slope
            slope = multiply(inverse, residual, image)
            scale_and_add(slope / before, image, direction)
        losses[i] = loss


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def weigh(strengths, weights):
    """Copy a row's strengths, padded with zeros to a multiple of AT_ONCE."""
    n = len(strengths)
    for j in range(n):
        weights[j] = strengths[j]
    for j in range(n, n + AT_ONCE):
        weights[j] = ZERO


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def start(indices, weights, vectors, u, near, out):
    """out += Σ s_j (1 - v_j·u) v_j; returns Σ s_j (1 - v_j·u)².

    Copies the row's vectors into `near`, where the steps that follow read them in sequence. The
    last vector is repeated, with weight 0, up to a multiple of AT_ONCE.
    """
    n, k, loss = len(indices), len(u), ZERO
    last = n - 1
    for j in range(0, n, AT_ONCE):
        i0, i1, i2, i3 = (
            indices[j],
            indices[min(j + 1, last)],
            indices[min(j + 2, last)],
            indices[min(j + 3, last)],
        )
        ahead = min(j + AHEAD, last)
        p0, p1 = indices[ahead], indices[min(ahead + 1, last)]
        p2, p3 = indices[min(ahead + 2, last)], indices[min(ahead + 3, last)]
        sum0 = sum1 = sum2 = sum3 = splat(ZERO)
        for f in range(0, k, LANES):
            prefetch(vectors, (p0, f))
            prefetch(vectors, (p1, f))
            prefetch(vectors, (p2, f))
            prefetch(vectors, (p3, f))
            x = load(u, (f,))
            v0, v1 = load(vectors, (i0, f)), load(vectors, (i1, f))
            v2, v3 = load(vectors, (i2, f)), load(vectors, (i3, f))
            store(near, (j, f), v0)
            store(near, (j + 1, f), v1)
            store(near, (j + 2, f), v2)
            store(near, (j + 3, f), v3)
            sum0, sum1, sum2, sum3 = (
                fma(v0, x, sum0),
                fma(v1, x, sum1),
                fma(v2, x, sum2),
                fma(v3, x, sum3),
            )
        d0, d1, d2, d3 = ONE - total(sum0), ONE - total(sum1), ONE - total(sum2), ONE - total(sum3)
        w0, w1, w2, w3 = (
            weights[j] * d0,
            weights[j + 1] * d1,
            weights[j + 2] * d2,
            weights[j + 3] * d3,
        )
        loss += w0 * d0 + w1 * d1 + w2 * d2 + w3 * d3
        add_four(near, j, w0, w1, w2, w3, out)
    return loss


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_image(near, weights, n, p, out):
    """out += Σ s_j (v_j·p) v_j over the n vectors in `near`."""
    for j in range(0, n, AT_ONCE):
        sum0 = sum1 = sum2 = sum3 = splat(ZERO)
        for f in range(0, len(p), LANES):
            x = load(p, (f,))
            sum0 = fma(load(near, (j, f)), x, sum0)
            sum1 = fma(load(near, (j + 1, f)), x, sum1)
            sum2 = fma(load(near, (j + 2, f)), x, sum2)
            sum3 = fma(load(near, (j + 3, f)), x, sum3)
        w0, w1 = weights[j] * total(sum0), weights[j + 1] * total(sum1)
        w2, w3 = weights[j + 2] * total(sum2), weights[j + 3] * total(sum3)
        add_four(near, j, w0, w1, w2, w3, out)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_four(near, j, w0, w1, w2, w3, out):
    """out += Σ w v over four vectors from the j-th on."""
    x0, x1, x2, x3 = splat(w0), splat(w1), splat(w2), splat(w3)
    for f in range(0, len(out), LANES):
        y = load(out, (f,))
        y = fma(x0, load(near, (j, f)), y)
        y = fma(x1, load(near, (j + 1, f)), y)
        y = fma(x2, load(near, (j + 2, f)), y)
        y = fma(x3, load(near, (j + 3, f)), y)
        store(out, (f,), y)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def multiply(d, x, out):
    """out = d x, element by element. Returns xᵀ d x."""
    product = splat(ZERO)
    for f in range(0, len(x), LANES):
        xs = load(x, (f,))
        y = fma(load(d, (f,)), xs, splat(ZERO))
        product = fma(xs, y, product)
        store(out, (f,), y)
    return total(product)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add(a, x, y):
    """y += a x."""
    for f in range(0, len(x), LANES):
        store(y, (f,), fma(splat(a), load(x, (f,)), load(y, (f,))))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def scale_and_add(a, x, y):
    """y = x + a y."""
    for f in range(0, len(x), LANES):
        store(y, (f,), fma(splat(a), load(y, (f,)), load(x, (f,))))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def dot(x, y):
    """xᵀy."""
    product = splat(ZERO)
    for f in range(0, len(x), LANES):
        product = fma(load(x, (f,)), load(y, (f,)), product)
    return total(product)
