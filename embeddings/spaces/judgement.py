"""Do a day and a reference have more in common than chance? In which directions?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from embeddings.spaces.rotation import Pairs, Rotations, n_pairs
from embeddings.spaces.similarity import unit_rows

# In standard deviations over random pairings. Of unrelated days the cosine's deviation has itself a
# standard deviation of up to 1.4, because the folds are judged by rotations that share most pairs.
RELATED = 5.0
JUDGED = 5000  # entities that are judged at most; the error of their mean cosine is below 0.01
STABLE = 4.0  # of 128 directions of noise, one is beyond it in 250 days


@dataclass(frozen=True)
class Judgement:
    """What a day and a reference have in common, judged by pairs that the rotation did not see.

    cosine: the mean of the pairs; chance: that of the same vectors paired at random, its
    expectation over all pairings within a side and fold; deviation: the difference of the two in
    standard deviations over these pairings; stable: (k,) bool, the directions in which the rank
    correlation of the pairs is beyond chance; correlations: (k,), these, strongest direction first.
    """

    pairs: int
    cosine: float
    chance: float
    deviation: float
    correlations: np.ndarray
    stable: np.ndarray

    @property
    def beyond_chance(self) -> bool:
        return self.deviation > RELATED


def judge(pairs: Pairs, rotations: Rotations) -> Judgement:
    """Judge every pair by the rotation that its fold had no part in.

    The random pairings need not be drawn, because their mean and variance are known. Source:
    Hoeffding 1951, "A Combinatorial Central Limit Theorem", theorem 2, with the dot products of all
    pairs as its matrix.
    """
    k = pairs[0].day.shape[1]
    step = max(1, -(-n_pairs(pairs) // JUDGED))
    n = 0
    found = expected = variance = 0.0
    correlations = np.zeros(k)
    freedom = 0
    with threadpool_limits(1):
        for group in pairs:
            # In these axes the rotation is the identity, and the strongest direction the first.
            a = group.day[::step].astype(np.float64) @ rotations.left[group.fold]
            b = unit_rows(group.reference[::step]) @ rotations.right[group.fold]
            n += len(a)
            found += np.sum(a * b)
            expected += np.sum(a, axis=0) @ np.sum(b, axis=0) / max(len(a), 1)
            if len(a) < 2:
                continue
            centred_a, centred_b = a - a.mean(axis=0), b - b.mean(axis=0)
            spread = np.sum((centred_a.T @ centred_a) * (centred_b.T @ centred_b))
            variance += spread / (len(a) - 1)
            correlations += (len(a) - 1) * rank_correlations(a, b)
            freedom += len(a) - 1
    if not freedom:
        return Judgement(n, 0.0, 0.0, 0.0, correlations, np.zeros(k, bool))
    deviations = correlations / np.sqrt(freedom)
    return Judgement(
        pairs=n,
        cosine=found / n,
        chance=expected / n,
        deviation=(found - expected) / max(np.sqrt(variance), 1e-300),
        correlations=correlations / freedom,
        stable=deviations > STABLE,
    )


def rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's ρ of every column of a with the same column of b, (k,); 0 for a constant one.

    Ranks, because a direction may be a few entities far away from all others, which would make
    Pearson's correlation of noise large.
    """
    ranks_a = rankdata(a, axis=0)
    ranks_b = rankdata(b, axis=0)
    ranks_a -= ranks_a.mean(axis=0)
    ranks_b -= ranks_b.mean(axis=0)
    lengths = np.sqrt(np.sum(ranks_a**2, axis=0) * np.sum(ranks_b**2, axis=0))
    return np.sum(ranks_a * ranks_b, axis=0) / np.maximum(lengths, 1e-300)
