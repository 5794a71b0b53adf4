"""User follow Jaccard: are consumers alike who engage with the same producers?

Spearman's rank correlation, over pairs of consumers, between the similarity of their vectors and
the Jaccard index of the sets of producers that they engaged with in the version's window.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from embeddings.benchmarks.intervals import Statistic
from embeddings.benchmarks.tasks.base import Case, Judged, NotJudged
from embeddings.facts import Fact
from embeddings.sampling import smallest_hashes

USERS = 400  # of whom all pairs are compared
FEWEST = 30
SETS = 5  # producers that a consumer must have engaged with


class Jaccard:
    TITLE = "user follow Jaccard"
    METRICS = (
        Fact("cosine", "Spearman's ρ of Jaccard index and cosine", better="higher"),
        Fact("dot", "Spearman's ρ of Jaccard index and dot product", better="higher"),
        Fact("euclidean", "Spearman's ρ of Jaccard index and closeness", better="higher"),
    )
    LATER = False
    NEEDS = ()

    def judge(self, case: Case) -> Judged:
        users = np.flatnonzero(np.diff(case.window.indptr) >= SETS)
        if len(users) < FEWEST:
            raise NotJudged(f"only {len(users)} consumers have {SETS} producers or more")
        users = users[smallest_hashes(case.consumer_ids[users], USERS)]
        sets = case.window[users].astype(bool).astype(np.float64)
        index = jaccard(sets)
        statistics = {}
        for metric, similarity in similarities(case.consumers[users].astype(np.float64)).items():
            statistics[metric] = spearman_of_pairs(index, similarity)
        return Judged(len(users), statistics)

    def rivals(self, case: Case) -> dict[str, Judged]:
        return {}


def jaccard(sets) -> np.ndarray:
    """|A ∩ B| / |A ∪ B| of every two rows of a matrix of zeros and ones, (n, n)."""
    both = (sets @ sets.T).toarray()
    sizes = both.diagonal()
    return both / (sizes[:, None] + sizes - both)


def similarities(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Of every two rows, (n, n). vectors: (n, k) float64."""
    dot = vectors @ vectors.T
    lengths = np.sqrt(dot.diagonal())
    safe = np.where(lengths > 0, lengths, 1.0)
    squares = dot.diagonal()
    return {
        "cosine": dot / (safe[:, None] * safe),
        "dot": dot,
        "euclidean": 2 * dot - squares[:, None] - squares,
    }


def spearman_of_pairs(a: np.ndarray, b: np.ndarray) -> Statistic:
    """Spearman's ρ over pairs of different users, of weighted users. a, b: (n, n), symmetric.

    A pair weighs as much as the product of its users' weights. Ranks are those of all pairs: they
    are not drawn again for every resample.
    """
    pairs = np.triu_indices(len(a), 1)
    ranked = []
    for values in (a, b):
        ranks = rankdata(np.round(values[pairs], 12))  # equal but for rounding: tied
        full = np.zeros_like(a)
        full[pairs] = ranks - ranks.mean()
        ranked.append(full + full.T)
    x, y = ranked

    def statistic(weights: np.ndarray | None = None) -> np.ndarray:
        w = np.ones((1, len(x))) if weights is None else np.asarray(weights, np.float64)
        total = w.sum(axis=1) ** 2 - (w**2).sum(axis=1)

        def mean(values: np.ndarray) -> np.ndarray:
            return ((w @ values) * w).sum(axis=1) / total

        mean_x, mean_y = mean(x), mean(y)
        covariance = mean(x * y) - mean_x * mean_y
        variances = (mean(x * x) - mean_x**2) * (mean(y * y) - mean_y**2)
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = covariance / np.sqrt(variances)
        return rho[0] if weights is None else rho

    return statistic


BENCHMARK = Jaccard()
