"""How far two distributions over the same bins are from each other."""

from __future__ import annotations

import numpy as np

SMOOTHING = 0.5  # added to every count: an empty bin would make the index infinite


def psi(before: np.ndarray, now: np.ndarray) -> float:
    """Population stability index: Σ (q - p) ln(q / p), p and q the shares before and now.

    before, now: (bins,) counts. NaN where one has none at all. Source: Siddiqi 2006, "Credit Risk
    Scorecards"; it is the symmetric divergence of Jeffreys 1946.
    """
    if not before.sum() or not now.sum():
        return float("nan")
    p, q = shares(before, SMOOTHING), shares(now, SMOOTHING)
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(before: np.ndarray, now: np.ndarray) -> float:
    """H((p + q) / 2) - (H(p) + H(q)) / 2 in bits, H the entropy: from 0, equal, to 1, disjoint.

    before, now: (bins,) counts. NaN where one has none at all. Source: Lin 1991, "Divergence
    Measures Based on the Shannon Entropy".
    """
    if not before.sum() or not now.sum():
        return float("nan")
    p, q = shares(before), shares(now)
    return max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)


def shares(counts: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    smoothed = counts + smoothing
    return smoothed / smoothed.sum()


def entropy(p: np.ndarray) -> float:
    """In bits."""
    there = p[p > 0]
    return float(-np.sum(there * np.log2(there)))


def quantile_edges(values: np.ndarray, bins: int = 10) -> np.ndarray:
    """Inner edges of bins with about as many values each: at most (bins - 1,), ascending.

    Without NaN and infinite values. A value that is very frequent has one bin.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return np.empty(0)
    return np.unique(np.quantile(known, np.arange(1, bins) / bins))


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(len(edges) + 2,): values in each bin, and at the end those that are NaN or infinite."""
    known = np.isfinite(values)
    places = np.searchsorted(edges, values[known], side="left")
    counts = np.bincount(places, minlength=len(edges) + 1)
    return np.append(counts, np.sum(~known))
