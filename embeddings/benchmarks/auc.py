"""ROC-AUC of weighted rows, so that one sort serves all resamples of a bootstrap."""

from __future__ import annotations

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """ROC-AUC: P(score of a positive > score of a negative), where a tie counts half.

    labels 0/1 and scores: (n,). weights >= 0: (..., n), default ones; a pair has the product of its
    rows' weights. Returns one AUC for every leading index of the weights; NaN without a pair.
    """
    if not len(scores):
        resamples = () if weights is None else np.shape(weights)[:-1]
        return np.full(resamples, np.nan)[()]
    if weights is None:
        return plain_auc(labels, scores)
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    positive = labels[order] > 0
    # Equal scores form a run: sorting once and summing by run serves all weights.
    run_starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    sorted_weights = np.asarray(weights)[..., order].astype(np.float64)
    positives = np.add.reduceat(sorted_weights * positive, run_starts, axis=-1)  # (..., runs)
    negatives = np.add.reduceat(sorted_weights * ~positive, run_starts, axis=-1)
    # All negatives of lower runs, and half of those in the same run.
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, (positives * below).sum(axis=-1) / pairs, np.nan)[()]


def plain_auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The same without weights, in whole numbers: () float64."""
    positive = labels > 0
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(positives) or not len(negatives):
        return np.array(np.nan)[()]
    # Of each positive, the negatives below it, and those not above it: a tie is in one of them.
    below = np.searchsorted(negatives, positives, "left").sum()
    not_above = np.searchsorted(negatives, positives, "right").sum()
    return np.asarray((below + not_above) / 2 / (len(positives) * len(negatives)))[()]
