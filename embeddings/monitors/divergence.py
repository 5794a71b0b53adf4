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


def quantile_edges(
    values: np.ndarray, bins: int = 10, times: np.ndarray | None = None
) -> np.ndarray:
    """Inner edges of bins with about as many values each: at most (bins - 1,), ascending.

    Without NaN and infinite values. A value that is very frequent has one bin. times: (n,) how
    often each value counts, by default once.
    """
    times = np.ones(len(values), np.int64) if times is None else times
    known = np.isfinite(values) & (times > 0)
    if not known.any():
        return np.empty(0)
    order = np.argsort(values[known])
    ordered, ends = values[known][order], np.cumsum(times[known][order])
    # As np.quantile of the repeated values: between the two next to each place.
    places = np.arange(1, bins) / bins * (ends[-1] - 1)
    below = np.floor(places)
    pairs = ordered[np.searchsorted(ends, [below, np.ceil(places)], side="right")]
    parts = zip(pairs.T, places - below, strict=True)
    return np.unique([np.quantile(pair, part) for pair, part in parts])


def histogram(values: np.ndarray, edges: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """(len(edges) + 2,): values in each bin, and at the end those that are NaN or infinite.

    times: (n,) how often each value counts, by default once.
    """
    times = np.ones(len(values), np.int64) if times is None else times
    places = np.searchsorted(edges, values, side="left")
    places[~np.isfinite(values)] = len(edges) + 1
    counts = np.zeros(len(edges) + 2, np.int64)
    np.add.at(counts, places, times)
    return counts
