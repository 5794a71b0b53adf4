"""The first columns on canonical axes, where they keep the products of both sides best.

The vectors of a space are on these axes already, as they were on its first day: for them, the first
columns as they come are nearly the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embeddings.lengths.base import linear
from embeddings.lengths.encoder import Encoder
from embeddings.spaces.rotation import canonical_axes


class Prefixes:
    """A rotation; see `canonical_axes`."""

    def fit(
        self, consumers: np.ndarray, producers: np.ndarray, lengths: Sequence[int], seed: int
    ) -> Encoder:
        """As `Reducer.fit`."""
        axes = canonical_axes(consumers, producers)
        return linear("prefixes", axes, lengths, np.zeros(len(axes)))


REDUCER = Prefixes()
