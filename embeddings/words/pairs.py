"""The pairs of words within a window of a sentence, on one machine; `jobs.words.pairs` is Spark's.

A word d places away counts 1 − (d − 1)/window: as often as word2vec's windows, whose lengths are
drawn evenly from 1 to `window`, hold it on average.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def window_pairs(words: np.ndarray, sentences: np.ndarray, window: int, n: int) -> sp.csr_matrix:
    """How often each word is near each other one, (n, n) float64, symmetric.

    words: (t,) row numbers in order; sentences: (t,) the number of each one's sentence, ascending.
    """
    total = sp.csr_matrix((n, n))
    for distance in range(1, min(window, len(words) - 1) + 1):
        together = sentences[distance:] == sentences[:-distance]
        first, second = words[:-distance][together], words[distance:][together]
        weights = np.full(len(first), nearness(distance, window))
        total = total + sp.csr_matrix((weights, (first, second)), shape=(n, n))
    return (total + total.T).tocsr()


def nearness(distance: int, window: int) -> float:
    """The share of word2vec's windows that reach so far."""
    return 1 - (distance - 1) / window
