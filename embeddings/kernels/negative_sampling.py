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
def random_batches(start, key, count, batches):
    """Draw the batch, one of `count`, of each of n rows behind `start` others. batches: (n,)."""
    for i in range(len(batches)):
        batches[i] = below(number(key, np.uint64(start + i)), count)


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
def add_pair(h, target, weight, chosen, slopes, outputs, gradients, back):
    """Add the gradients of one pair and its negatives; return their log-likelihood.

    h: (1, k), the input. The target and the negatives, chosen[1:], are rows of the outputs and of
    their gradients. The gradient of h is written to back, (1, k).
    slopes: (1 + negatives,), scratch.
    """
    chosen[0] = target
    likelihood = 0.0
    together = 1.0  # the product of probabilities whose logarithm is not yet taken
    for n in range(len(chosen)):
        score = product(h, 0, outputs, chosen[n])
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
        row = chosen[n]
        slope = splat(slopes[n])
        for f in range(0, outputs.shape[1], LANES):
            store(back, (0, f), fma(slope, load(outputs, (row, f)), load(back, (0, f))))
            store(gradients, (row, f), fma(slope, load(h, (0, f)), load(gradients, (row, f))))
    return weight * (likelihood + np.log(together))


@njit(nogil=True, cache=True)
def is_kept(key, n, share):
    """Does the n-th number of a key keep a producer? share: the probability of it."""
    return share >= 1.0 or share_of_one(number(key, n)) < share


@njit(nogil=True, cache=True)
def draw_negatives(key, drawn, shares, aliases, chosen, outputs, gradients):
    """Fill chosen[1:] by the numbers of a key after the first `drawn`, and fetch their rows.

    Returns how many numbers are drawn now.
    """
    for n in range(1, len(chosen)):
        drawn += np.uint64(1)
        chosen[n] = draw(number(key, drawn), shares, aliases)
        prefetch(outputs, (chosen[n], 0))
        prefetch(gradients, (chosen[n], 0))
    return drawn


@njit(nogil=True, cache=True)
def mark_columns(rows, indptr, indices, marks):
    """Set marks, (m,), to 1 where one of these rows of a CSR matrix has an entry."""
    for i in rows:
        for at in range(indptr[i], indptr[i + 1]):
            marks[indices[at]] = 1


@njit(nogil=True, cache=True)
def add_by_column(indices, strengths, sums):
    """Add the strengths of a CSR matrix to the sums of their columns, (m,) float64.

    As np.bincount does, which would first make copies of all indices and strengths, of twice the
    width.
    """
    for at in range(len(indices)):
        sums[indices[at]] += strengths[at]


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def mean_of_others(whole, weight, rest, inputs, j, h):
    """h = (whole − weight · inputs[j]) / rest. whole, h: (1, k)."""
    scale = splat(np.float32(1.0) / rest)
    zero = splat(np.float32(0.0))
    for f in range(0, inputs.shape[1], LANES):
        others = fma(splat(-weight), load(inputs, (j, f)), load(whole, (0, f)))
        store(h, (0, f), fma(scale, others, zero))


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_baskets(
    rows, start, indptr, indices, strengths, keep, shares, aliases, key, chosen, outputs, gradients,
    inputs, input_gradients, places,
):  # fmt: skip
    """Every producer of a basket is predicted from the weighted mean of the others.

    rows: of the consumers to pass; `start` is the first one's row number in the whole matrix.
    outputs and their gradients: (m or more, k). inputs: (m, k); their gradients have a row,
    places[j], only for each producer j that one of the rows has. keep: (m,), the probability of a
    producer to be kept. shares, aliases: of `draw`. key: uint64, of the random numbers. chosen:
    (1 + negatives,), scratch. Returns the log-likelihood and the weight of all pairs.
    """
    likelihood = 0.0
    weight = 0.0
    longest = 0
    for i in rows:
        longest = max(longest, indptr[i + 1] - indptr[i])
    basket = np.empty(longest, np.int64)
    weights = np.empty(longest, np.float32)
    for i in rows:
        own_key = number(key, np.uint64(start + i))
        drawn = np.uint64(0)
        size = 0
        for at in range(indptr[i], indptr[i + 1]):
            if keep[indices[at]] < 1.0:
                drawn += np.uint64(1)
            if is_kept(own_key, drawn, keep[indices[at]]):
                basket[size] = indices[at]
                weights[size] = strengths[at]
                size += 1
        if size > 1:  # or nothing is left to predict it from
            noise = (shares, aliases, own_key, drawn, chosen)
            learned = (outputs, gradients, inputs, input_gradients, places)
            added = add_basket(basket[:size], weights[:size], noise, learned)
            likelihood += added[0]
            weight += added[1]
    return likelihood, weight


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_basket(basket, weights, noise, learned):
    """The same of one basket, as far as it was kept.

    noise: what negatives are drawn with. learned: vectors and gradients.
    """
    shares, aliases, key, drawn, chosen = noise
    outputs, gradients, inputs, input_gradients, places = learned
    likelihood = 0.0
    weight = 0.0
    vectors = empty_aligned(4, outputs.shape[1])
    whole, h, back, whole_back = vectors[0:1], vectors[1:2], vectors[2:3], vectors[3:4]
    slopes = np.empty(len(chosen), np.float32)
    whole[:] = 0.0
    whole_back[:] = 0.0
    for n in range(len(basket)):
        add_scaled(weights[n], inputs, basket[n], whole, 0)
    sum_weights = weights.sum()
    for n in range(len(basket)):
        j = basket[n]
        rest = sum_weights - weights[n]
        if rest <= ROUNDING * sum_weights:
            continue  # beside this one the others weigh nothing
        mean_of_others(whole, weights[n], rest, inputs, j, h)
        drawn = draw_negatives(key, drawn, shares, aliases, chosen, outputs, gradients)
        likelihood += add_pair(h, j, weights[n], chosen, slopes, outputs, gradients, back)
        weight += weights[n]
        # Each of the others moves the mean by its weight; this one was no part of it.
        scale = np.float32(1.0) / rest
        add_scaled(scale, back, 0, whole_back, 0)
        add_scaled(-scale * weights[n], back, 0, input_gradients, places[j])
    for n in range(len(basket)):
        add_scaled(weights[n], whole_back, 0, input_gradients, places[basket[n]])
    return likelihood, weight


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_direct(
    rows, start, indptr, indices, strengths, keep, shares, aliases, key, chosen, outputs, gradients,
    consumers, squares, rate, penalty, dim,
):  # fmt: skip
    """Every producer of a consumer is predicted from the consumer's own vector, which learns here.

    As `add_baskets`, but without inputs. consumers: (own consumers, k), in place: a step of Adagrad
    per pair. squares: (own consumers,), in place, Adagrad's sums. penalty: λ of a whole row, spread
    over its pairs. dim: columns without padding.
    """
    likelihood = 0.0
    weight = 0.0
    back = empty_aligned(1, outputs.shape[1])
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
            if not is_kept(own_key, drawn, keep[j]):
                continue
            drawn = draw_negatives(own_key, drawn, shares, aliases, chosen, outputs, gradients)
            likelihood += add_pair(h, j, strengths[at], chosen, slopes, outputs, gradients, back)
            weight += strengths[at]
            add_scaled(-shrink, h, 0, back, 0)
            adagrad_row(consumers, i, back, 0, squares, rate, dim)
    return likelihood, weight


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def adagrad_row(vectors, i, gradients, j, squares, rate, dim):
    """vectors[i] += rate · g / √(Σ mean g²), g = gradients[j]; squares[i] is the sum so far."""
    mean_square = product(gradients, j, gradients, j) / np.float32(dim)
    if mean_square > 0.0:
        squares[i] += mean_square
        add_scaled(rate / np.sqrt(squares[i]), gradients, j, vectors, i)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def adagrad(vectors, rows, gradients, squares, rate, dim):
    """A step of Adagrad, uphill, with one sum of squares per row.

    rows: (g,), the row of the vectors that each of g gradients is of. dim: columns without padding.

    Source: Duchi, Hazan, Singer 2011, "Adaptive subgradient methods"; a sum per row as in
    embedding tables of DLRM.
    """
    for j in range(len(rows)):
        adagrad_row(vectors, rows[j], gradients, j, squares, rate, dim)
