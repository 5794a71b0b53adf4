"""What the vectors of words are worth: synonyms, topics, and what occurs together a week later.

Each function returns one value per judged word; `result` makes a published result of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import mean_estimate
from embeddings.benchmarks.metrics import rank_scores
from embeddings.benchmarks.results import Result
from embeddings.sampling import smallest_hashes
from embeddings.spaces.similarity import BLOCK, cosines, unit_rows

NEAREST = 10  # neighbours whose topics are compared
TOP = 20  # of NDCG
JUDGED = 2000  # words at most that are judged, the same ones in every week
SEED = 0  # of the resamples of intervals
UNDATED = date.min  # for a result that is not published


def nearer_than_others(vectors: np.ndarray, twins: np.ndarray) -> np.ndarray:
    """The share of all other words that are less near to a word than its synonym, (pairs,).

    vectors: (m, k); twins: (pairs, 2) rows of words that mean the same. 0.5 by chance.
    """
    unit = unit_rows(vectors)
    shares = np.zeros(len(twins))
    for start in range(0, len(twins), BLOCK):
        pairs = twins[start : start + BLOCK]
        found = cosines(unit, pairs[:, 0])
        own = found[np.arange(len(pairs)), pairs[:, 1]]
        below = np.sum(found < own[:, None], axis=1) - 1  # without the word itself
        shares[start : start + BLOCK] = below / max(len(vectors) - 2, 1)
    return shares


def topic_purity(vectors: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """The share of a word's nearest words that have its topic, (m,). topics: (m,) numbers."""
    unit = unit_rows(vectors)
    nearest = min(NEAREST, len(vectors) - 1)
    shares = np.zeros(len(vectors))
    for rows in np.array_split(np.arange(len(vectors)), -(-len(vectors) // BLOCK)):
        near = np.argpartition(-cosines(unit, rows), nearest - 1, axis=1)[:, :nearest]
        shares[rows] = np.mean(topics[near] == topics[rows][:, None], axis=1)
    return shares


def log_noise(counts: np.ndarray, exponent: float) -> np.ndarray:
    """The logarithm of how often each word is drawn as a negative, up to a constant: (m,)."""
    return exponent * np.log(np.maximum(counts, 1.0))


def predicted(
    inputs: np.ndarray, outputs: np.ndarray, frequency: np.ndarray, later: sp.csr_matrix
) -> np.ndarray:
    """NDCG@TOP of the words that occur near each one later, (words,).

    later: (words, m), what occurs near them; frequency: (m,), added to each product. A product is
    the logarithm of how much more often than as a negative a word comes near, so that with
    `log_noise` the sum ranks by how likely it comes. inputs: (words, k); outputs: (m, k).
    """
    transposed = outputs.T.astype(np.float32)
    bias = frequency.astype(np.float32)
    return rank_scores(lambda rows: inputs[rows] @ transposed + bias, later).ndcg(TOP)


def by_counts(seen: sp.csr_matrix, frequency: np.ndarray, later: sp.csr_matrix) -> np.ndarray:
    """The same of ranking by how often a word was near before, and then by frequency, (words,).

    seen: (words, m) weights; frequency: (m,).
    """
    smallest = 1e-9 / max(float(np.abs(frequency).max(initial=0.0)), 1.0)
    return rank_scores(lambda rows: seen[rows].toarray() + smallest * frequency, later).ndcg(TOP)


def judged_words(ids: np.ndarray, later: sp.csr_matrix) -> np.ndarray:
    """The rows of the words that are judged: with something near them later. ids: (m,)."""
    known = np.flatnonzero(np.diff(later.indptr))
    return known[smallest_hashes(ids[known], JUDGED)]


def result(
    task: str, metric: str, on: date, values: np.ndarray, baselines: Mapping[str, np.ndarray]
) -> Result:
    """The mean over words with its interval, and the means of the baselines."""
    estimate = mean_estimate(values, SEED)
    means = {name: float(rival.mean()) for name, rival in baselines.items()}
    interval = (estimate.value, estimate.low, estimate.high)
    return Result(task, metric, on, *interval, len(values), means)
