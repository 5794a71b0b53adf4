"""Principal components: the first axes of the covariance, of both sides together.

With x̄ the mean of all n vectors and C = Σ (x − x̄)(x − x̄)ᵀ / n, a shorter vector is A_lᵀ (x − x̄),
where A_l are the l eigenvectors of C with the largest eigenvalues. No linear encoder of that length
reconstructs the vectors with a smaller squared error. Source: Pearson 1901, "On lines and planes of
closest fit to systems of points in space", Philosophical Magazine 2.

What is lost is what lies along x̄: a product of two shorter vectors is one of differences from the
mean, in which the popularity of a producer counts less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.lengths.base import linear
from embeddings.lengths.encoder import Encoder


class PCA:
    """Each axis has the sign that makes the sum of the third powers of its numbers positive."""

    def fit(
        self, consumers: np.ndarray, producers: np.ndarray, lengths: Sequence[int], seed: int
    ) -> Encoder:
        """As `Reducer.fit`. In float64, on one thread: the last bits depend on their number."""
        vectors = np.concatenate([consumers, producers]).astype(np.float64)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        with threadpool_limits(1):
            _, axes = np.linalg.eigh(centred.T @ centred)
            axes = axes[:, ::-1]  # eigh sorts ascending
            skew = np.sum((centred @ axes) ** 3, axis=0)
            axes = axes * np.where(skew < 0, -1.0, 1.0)
            bias = -mean @ axes
        return linear("pca", axes, lengths, bias)


REDUCER = PCA()
