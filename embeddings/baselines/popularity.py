"""Popularity: the same ranking for everyone."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.baselines import Scorer


def popularity(x: sp.csr_matrix) -> Scorer:
    """Score every producer by how many consumers engaged with it. x: (n, m) strengths > 0."""
    counts = np.bincount(x.indices, minlength=x.shape[1]).astype(np.float32)
    return lambda history: np.tile(counts, (history.shape[0], 1))
