"""out += Xᵀ(X q) over the rows of a CSR matrix, in one pass and without storing the transpose."""

from __future__ import annotations

import numpy as np
from numba import njit

from embeddings.kernels.simd import LANES, fma, load, splat, store

BLOCK = LANES  # columns multiplied at a time: a gathered row of q is one cache line
ZERO = np.float32(0)
ONE = np.float32(1)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_gram_block(indptr, indices, values, q, out):
    """out += Xᵀ(X q) for one block of columns.

    indptr (n + 1,), indices (nnz,), values (nnz,) float32: X, (n, m). q, out: (m, BLOCK) float32,
    C-contiguous. A row's product with q stays in a register until it is added to out.
    """
    for i in range(len(indptr) - 1):
        start, stop = indptr[i], indptr[i + 1]
        # Two sums, so that no multiplication waits for the one before.
        even, odd = splat(ZERO), splat(ZERO)
        for t in range(start, stop - 1, 2):
            even = fma(splat(values[t]), load(q, (indices[t], 0)), even)
            odd = fma(splat(values[t + 1]), load(q, (indices[t + 1], 0)), odd)
        if (stop - start) % 2:
            even = fma(splat(values[stop - 1]), load(q, (indices[stop - 1], 0)), even)
        product = fma(splat(ONE), odd, even)
        for t in range(start, stop):
            column = (indices[t], 0)
            store(out, column, fma(splat(values[t]), product, load(out, column)))


@njit(nogil=True, fastmath=True, cache=True)
def add_gram_product(indptr, indices, values, q, out):
    """out += Xᵀ(X q) for q and out (m, b) of any width and float type; for small matrices."""
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
