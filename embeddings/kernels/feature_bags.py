"""Gradients of pairs whose input is the weighted mean of features: the domains that a newcomer has
visited, the words of an item. Pairs, negatives and tables are those of `negative_sampling`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embeddings.kernels.negative_sampling import add_pair, add_scaled, draw_negatives
from embeddings.kernels.random_numbers import number
from embeddings.kernels.simd import empty_aligned


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def add_feature_bags(
    rows, start, bag_indptr, bag_indices, bag_weights, indptr, indices, strengths,
    shares, aliases, key, chosen, outputs, gradients, features, feature_gradients,
):  # fmt: skip
    """Every producer of an entity is predicted from the weighted mean of the entity's features.

    rows: of the entities to pass; `start` is the first one's row number in the whole matrix. bag_*:
    CSR of the features, weights >= 0; the other three: CSR of the producers. outputs, features: the
    vectors of producers and of features, with gradients beside them. shares, aliases: of `draw`.
    key: uint64, of the random numbers. chosen: (1 + negatives,), scratch. An entity whose weights
    are all 0 is passed over. Returns the log-likelihood and the weight of all pairs.
    """
    likelihood = 0.0
    weight = 0.0
    vectors = empty_aligned(3, outputs.shape[1])
    h, back, whole_back = vectors[0:1], vectors[1:2], vectors[2:3]
    slopes = np.empty(len(chosen), np.float32)
    for i in rows:
        total = np.float32(0.0)
        for at in range(bag_indptr[i], bag_indptr[i + 1]):
            total += bag_weights[at]
        if total <= 0.0:
            continue
        own_key = number(key, np.uint64(start + i))
        drawn = np.uint64(0)
        h[:] = 0.0
        whole_back[:] = 0.0
        for at in range(bag_indptr[i], bag_indptr[i + 1]):
            add_scaled(bag_weights[at] / total, features, bag_indices[at], h, 0)
        for at in range(indptr[i], indptr[i + 1]):
            target, strength = indices[at], strengths[at]
            drawn = draw_negatives(own_key, drawn, shares, aliases, chosen, outputs, gradients)
            likelihood += add_pair(h, target, strength, chosen, slopes, outputs, gradients, back)
            weight += strength
            add_scaled(np.float32(1.0), back, 0, whole_back, 0)
        for at in range(bag_indptr[i], bag_indptr[i + 1]):
            share = bag_weights[at] / total
            add_scaled(share, whole_back, 0, feature_gradients, bag_indices[at])
    return likelihood, weight
