"""Gradients of pairs and their negatives: log σ(h·v) + Σ_negatives log σ(−h·v⁻), times a weight.

The kernels read tables that stay as they are and add to gradients beside them. A sum does not
depend on who computed which part, so that any number of workers finds the same up to rounding.
Every consumer draws its own random numbers, by its row number in the whole matrix.

Tables are C-contiguous float32, and padded with zeros to a multiple of LANES columns.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embeddings.kernels.random_numbers import below, number, share_of_one
from embeddings.kernels.simd import LANES, empty_aligned, fma, load, prefetch, splat, store, total

STEEPEST = np.float32(15.0)  # scores beyond it have a gradient of rounding errors only
ROUNDING = np.float32(1e-5)  # a difference of sums below this share is rounding
SMALLEST = 1e-200  # a product of probabilities is turned into its logarithm before it underflows


@njit(nogil=True, cache=True)
def alias_table(probabilities):
    """Shares (m,) float32 and aliases (m,) int32, from which `draw` draws in constant time.

    probabilities: (m,) float64, their sum is 1. Column j keeps its share of the draws that hit it;
    the rest goes to its alias. Source: Vose 1991, "A linear algorithm for generating random numbers
    with a given distribution".
    """
    m = len(probabilities)
    left = probabilities * m
    shares = np.ones(m, np.float32)
    aliases = np.arange(m).astype(np.int32)
    small = [j for j in range(m) if left[j] < 1.0]
    large = [j for j in range(m) if left[j] >= 1.0]
    while len(small) > 0 and len(large) > 0:
        j = small.pop()
        donor = large[-1]
        shares[j] = left[j]
        aliases[j] = donor
        left[donor] -= 1.0 - left[j]
        if left[donor] < 1.0:
            small.append(large.pop())
    return shares, aliases


@njit(nogil=True, cache=True)
def draw(drawn, shares, aliases):
    """The column that a random number chooses. drawn: uint64."""
    column = below(drawn, len(shares))
    return column if share_of_one(drawn) < shares[column] else np.int64(aliases[column])


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def product(a, i, b, j):
    """a[i] · b[j]."""
    sums = splat(np.float32(0.0))
    for f in range(0, a.shape[1], LANES):
        sums = fma(load(a, (i, f)), load(b, (j, f)), sums)
    return total(sums)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_scaled(scale, a, i, b, j):
    """b[j] += scale · a[i]."""
    scales = splat(np.float32(scale))
    for f in range(0, a.shape[1], LANES):
        store(b, (j, f), fma(scales, load(a, (i, f)), load(b, (j, f))))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_pair(h, target, first, weight, chosen, slopes, table, gradients, back):
    """Add the gradients of one pair and its negatives; return their log-likelihood.

    h: (1, k), the input. The target and the negatives, chosen[1:], are rows of the table behind
    row `first`. The gradient of h is written to back, (1, k).
    slopes: (1 + negatives,), scratch.
    """
    chosen[0] = target
    likelihood = 0.0
    together = 1.0  # the product of probabilities whose logarithm is not yet taken
    for n in range(len(chosen)):
        score = product(h, 0, table, first + chosen[n])
        score = min(max(score, -STEEPEST), STEEPEST)
        other = np.float32(1.0) / (np.float32(1.0) + np.exp(score))  # σ(−score)
        if n == 0:
            slopes[n] = weight * other
            together *= np.float32(1.0) - other
        else:
            slopes[n] = weight * (other - np.float32(1.0))
            together *= other
        if together < SMALLEST:
            likelihood += np.log(together)
            together = 1.0
    back[:] = 0.0
    for n in range(len(chosen)):
        row = first + chosen[n]
        slope = splat(slopes[n])
        for f in range(0, table.shape[1], LANES):
            store(back, (0, f), fma(slope, load(table, (row, f)), load(back, (0, f))))
            store(gradients, (row, f), fma(slope, load(h, (0, f)), load(gradients, (row, f))))
    return weight * (likelihood + np.log(together))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_baskets(
    rows, start, indptr, indices, strengths, keep, shares, aliases, key, chosen, table, gradients
):
    """Every producer of a basket is predicted from the weighted mean of the others.

    rows: of the consumers to pass; `start` is the first one's row number in the whole matrix.
    table: (2m, k), m input vectors and then m output vectors. keep: (m,), the probability of a
    producer to be kept. key: uint64, of the random numbers. chosen: (1 + negatives,), scratch.

    Returns the log-likelihood and the weight of all pairs.
    """
    m = len(keep)
    likelihood = 0.0
    weight = 0.0
    k = table.shape[1]
    longest = 0
    for i in rows:
        longest = max(longest, indptr[i + 1] - indptr[i])
    basket = np.empty(longest, np.int64)
    weights = np.empty(longest, np.float32)
    vectors = empty_aligned(4, k)  # of the basket, the input, and the gradients of both
    whole, h, back, whole_back = vectors[0:1], vectors[1:2], vectors[2:3], vectors[3:4]
    slopes = np.empty(len(chosen), np.float32)
    for i in rows:
        own_key = number(key, np.uint64(start + i))
        drawn = np.uint64(0)
        size = 0
        sum_weights = np.float32(0.0)
        whole[:] = 0.0
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            if keep[j] < 1.0:
                drawn += np.uint64(1)
                if share_of_one(number(own_key, drawn)) >= keep[j]:
                    continue
            basket[size] = j
            weights[size] = strengths[at]
            sum_weights += strengths[at]
            add_scaled(strengths[at], table, j, whole, 0)
            size += 1
        if size < 2:
            continue  # nothing is left to predict it from
        whole_back[:] = 0.0
        for n in range(size):
            j = basket[n]
            rest = sum_weights - weights[n]
            if rest <= ROUNDING * sum_weights:
                continue  # beside this one the others weigh nothing
            scale = np.float32(1.0) / rest
            for f in range(0, k, LANES):
                others = fma(splat(-weights[n]), load(table, (j, f)), load(whole, (0, f)))
                store(h, (0, f), fma(splat(scale), others, splat(np.float32(0.0))))
            for c in range(1, len(chosen)):
                drawn += np.uint64(1)
                chosen[c] = draw(number(own_key, drawn), shares, aliases)
                prefetch(table, (m + chosen[c], 0))
                prefetch(gradients, (m + chosen[c], 0))
            likelihood += add_pair(h, j, m, weights[n], chosen, slopes, table, gradients, back)
            weight += weights[n]
            # Each of the others moves the mean by its weight; this one was no part of it.
            add_scaled(scale, back, 0, whole_back, 0)
            add_scaled(-scale * weights[n], back, 0, gradients, j)
        for n in range(size):
            add_scaled(weights[n], whole_back, 0, gradients, basket[n])
    return likelihood, weight


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_direct(
    rows,
    start,
    indptr,
    indices,
    strengths,
    keep,
    shares,
    aliases,
    key,
    chosen,
    table,
    gradients,
    consumers,
    squares,
    rate,
    penalty,
    dim,
):
    """Every producer of a consumer is predicted from the consumer's own vector, which learns here.

    As `add_baskets`, but with a table of m output vectors. consumers: (own consumers, k), in place:
    a step of Adagrad per pair. squares: (own consumers,), in place, Adagrad's sums. penalty: λ of
    a whole row, spread over its pairs. dim: columns without padding.
    """
    likelihood = 0.0
    weight = 0.0
    k = table.shape[1]
    back = empty_aligned(1, k)
    slopes = np.empty(len(chosen), np.float32)
    for i in rows:
        own_key = number(key, np.uint64(start + i))
        drawn = np.uint64(0)
        h = consumers[i : i + 1]
        shrink = np.float32(penalty / max(indptr[i + 1] - indptr[i], 1))
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            if keep[j] < 1.0:
                drawn += np.uint64(1)
                if share_of_one(number(own_key, drawn)) >= keep[j]:
                    continue
            for c in range(1, len(chosen)):
                drawn += np.uint64(1)
                chosen[c] = draw(number(own_key, drawn), shares, aliases)
                prefetch(table, (chosen[c], 0))
                prefetch(gradients, (chosen[c], 0))
            likelihood += add_pair(h, j, 0, strengths[at], chosen, slopes, table, gradients, back)
            weight += strengths[at]
            add_scaled(-shrink, h, 0, back, 0)
            adagrad_row(h, 0, back, 0, squares, i, rate, dim)
    return likelihood, weight


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def adagrad_row(vectors, i, gradients, j, squares, at, rate, dim):
    """vectors[i] += rate · g / √(Σ mean g²), with the sum over all steps in squares[at]."""
    mean_square = product(gradients, j, gradients, j) / np.float32(dim)
    if mean_square > 0.0:
        squares[at] += mean_square
        add_scaled(rate / np.sqrt(squares[at]), gradients, j, vectors, i)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def adagrad(vectors, gradients, squares, rate, dim):
    """A step of Adagrad, uphill, with one sum of squares per row. dim: columns without padding.

    Source: Duchi, Hazan, Singer 2011, "Adaptive subgradient methods"; a sum per row as in
    embedding tables of DLRM.
    """
    for i in range(len(vectors)):
        adagrad_row(vectors, i, gradients, i, squares, i, rate, dim)
