"""The consumer that makes its own producers likely and drawn ones unlikely: Newton's method.

    loss(u) = Σ_j s_j (log(1 + e^(−u·v_j)) + K Σ_n q_n log(1 + e^(u·v_n))) + λ/2 ‖u‖²

The loss is convex and its Hessian at least λ, so there is one minimum. A step that does not lower
the loss enough is halved. All in float64, single-threaded, without Python's lock and BLAS.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embeddings.kernels.exact_solve import BLOCK, CHUNK, add_gram, solve_in_place

MOST_STEPS = 100  # Newton's; the loss is self-concordant-like, and some ten are enough
MOST_HALVINGS = 40
ENOUGH = 1e-4  # a step lowers the loss by at least this share of what its slope promises
PRECISION = 1e-12  # of the loss: the promise of a step at which the minimum is reached


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def softplus(x):
    """log(1 + eˣ), without overflow."""
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def dot(a, b):
    """a · b in float64."""
    product = 0.0
    for f in range(len(a)):
        product += a[f] * b[f]
    return product


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def loss_of(u, vectors, signs, weights, count, penalty):
    """The loss of u. vectors: (n, k), of which `count` are used; signs: −1 for own producers."""
    loss = 0.5 * penalty * dot(u, u)
    for j in range(count):
        loss += weights[j] * softplus(signs[j] * dot(vectors[j], u))
    return loss


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def logistic_rows(indptr, indices, strengths, vectors, noise, shares, negatives, penalty, rows):
    """rows[i] = the minimum of row i's loss; zeros for an empty row.

    noise: (q, k) and shares: (q,), the drawn producers and how often each is drawn.
    """
    n, k = rows.shape
    longest = 0
    for i in range(n):
        longest = max(longest, indptr[i + 1] - indptr[i])
    q = len(noise)
    terms = np.empty((longest + q, k))  # the noise first: it is the same for all rows
    signs = np.empty(longest + q)
    weights = np.empty(longest + q)
    for j in range(q):
        terms[j] = noise[j]
        signs[j] = 1.0
    signs[q:] = -1.0
    near = np.zeros((k + BLOCK, CHUNK))
    system = np.zeros((k + BLOCK, k + BLOCK))
    for i in range(n):
        start, count = indptr[i], q + indptr[i + 1] - indptr[i]
        rows[i] = 0.0
        if count == q:
            continue
        whole = 0.0
        for at in range(count - q):
            terms[q + at] = vectors[indices[start + at]]
            weights[q + at] = strengths[start + at]
            whole += strengths[start + at]
        for j in range(q):
            weights[j] = negatives * whole * shares[j]
        rows[i] = minimum(terms, signs, weights, count, penalty, near, system, k)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def minimum(vectors, signs, weights, count, penalty, near, system, k):
    """The minimum, (k,), by Newton's method from zero. near, system: scratch."""
    u = np.zeros(k)
    loss = loss_of(u, vectors, signs, weights, count, penalty)
    gradient = np.empty(k)
    step = np.empty(k)
    for _ in range(MOST_STEPS):
        for f in range(k):
            gradient[f] = penalty * u[f]
        add_derivatives(u, vectors, signs, weights, count, gradient, near, system)
        for f in range(k):
            system[f, f] += penalty
            step[f] = -gradient[f]
        solve_in_place(system, step, k)
        promise = -dot(gradient, step)  # twice what the step would gain of a quadratic
        if promise <= PRECISION * loss:
            break
        length = 1.0
        for _ in range(MOST_HALVINGS):
            tried = u + length * step
            lower = loss_of(tried, vectors, signs, weights, count, penalty)
            if lower <= loss - ENOUGH * length * promise:
                break
            length *= 0.5
        else:
            break  # rounding is all that is left
        u = tried
        loss = lower
    return u


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_derivatives(u, vectors, signs, weights, count, gradient, near, system):
    """Add to the gradient, and write the lower triangle of the Hessian without the penalty."""
    k = len(u)
    system[:] = 0.0
    for start in range(0, count, CHUNK):
        width = min(CHUNK, count - start)
        for at in range(width):
            j = start + at
            probability = 1.0 / (1.0 + np.exp(-signs[j] * dot(vectors[j], u)))
            slope = weights[j] * signs[j] * probability
            root = np.sqrt(weights[j] * probability * (1.0 - probability))
            for f in range(k):
                gradient[f] += slope * vectors[j, f]
                near[f, at] = root * vectors[j, f]
        add_gram(near, k, width, system)
