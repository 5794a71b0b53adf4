"""Degrees of topics: how much each entity has to do with each topic, and how well vectors tell."""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import weighted_mean
from embeddings.benchmarks.learning import Halves, linear_scores
from embeddings.benchmarks.tasks.base import Judged, NotJudged

FEWEST = 100  # entities with a degree


def degrees(counts: sp.csr_matrix) -> np.ndarray:
    """Each row divided by its sum, (n, t); a row of zeros stays one."""
    dense = counts.toarray().astype(np.float64)
    return dense / np.maximum(dense.sum(axis=1, keepdims=True), 1e-12)


def judge_degrees(
    ids: np.ndarray, vectors: np.ndarray, wanted: np.ndarray, among: np.ndarray
) -> Judged:
    """Mean NDCG of the topics in the order of their predicted degrees.

    ids: (n,), vectors: (n, k), wanted: (n, t) degrees; among: the rows that may be judged. Raises
    NotJudged.
    """
    rows = among[wanted[among].any(axis=1)]
    if len(rows) < FEWEST:
        raise NotJudged(f"only {len(rows)} have a topic, fewer than {FEWEST}")
    halves = Halves.of(ids, rows)
    values = ndcg(wanted[halves.judged], linear_scores(vectors, wanted, halves))
    return Judged(len(values), {"ndcg": partial(weighted_mean, values)})


def ndcg(gains: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """NDCG of each row over all its columns, whose gains are graded, (n,).

    gains: (n, t) >= 0, one of each row above 0; scores: (n, t), ties in the order of the columns.
    Source: Järvelin & Kekäläinen 2002.
    """
    discounts = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
    order = np.argsort(-scores, axis=1, kind="stable")
    gained = np.take_along_axis(gains, order, axis=1) @ discounts
    best = -np.sort(-gains, axis=1) @ discounts
    return gained / best
