"""Item-item co-occurrence: producers that are near those of the history."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.baselines import Scorer


def item_item(x: sp.csr_matrix) -> Scorer:
    """Score a producer by the sum, over the history, of strength times cosine of the two columns.

    x: (n, m) strengths > 0. Of producers without any co-occurrence, the more popular comes first.
    """
    near = cosines_of_columns(x)
    counts = np.bincount(x.indices, minlength=x.shape[1])
    last = 1e-6 * counts / (1 + counts.max(initial=0))
    return lambda history: ((history @ near).toarray() + last).astype(np.float32)


def cosines_of_columns(x: sp.csr_matrix) -> sp.csr_matrix:
    """The cosine of every two columns, without those of a column with itself, (m, m)."""
    lengths = np.sqrt(np.asarray(x.multiply(x).sum(axis=0)).ravel())
    unit = x @ sp.diags(1 / np.where(lengths > 0, lengths, 1.0))
    near = (unit.T @ unit).tocsr()
    near.setdiag(0)
    near.eliminate_zeros()
    return near
