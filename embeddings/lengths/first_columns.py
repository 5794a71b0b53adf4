"""The first columns of the vectors as they come.

What these are worth depends on the method: an SVD's columns are sorted by singular value, those of
ALS, of towers or of co-occurrence are in no order, because any rotation of them fits as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embeddings.lengths.encoder import Encoder


class FirstColumns:
    """Nothing is learned."""

    def fit(
        self, consumers: np.ndarray, producers: np.ndarray, lengths: Sequence[int], seed: int
    ) -> Encoder:
        """As `Reducer.fit`."""
        return Encoder("first_columns", producers.shape[1], dict.fromkeys(lengths, 0))


REDUCER = FirstColumns()
