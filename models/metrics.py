"""Metrics of a ranker's scores. NaN where a metric is undefined, as with labels of one class."""

from __future__ import annotations

import numpy as np

CLIP = 1e-7  # the least distance of a probability from 0 and 1, so that log losses are finite


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """ROC-AUC: P(score of a positive > score of a negative), where a tie counts half.

    labels 0/1 and scores: (n,). weights >= 0: (..., n), default ones; a pair has the product of its
    rows' weights. Returns one AUC for every leading index of the weights.
    """
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    positive = labels[order] > 0
    sorted_weights = np.asarray(weights)[..., order].astype(np.float64)
    # Equal scores form a run: sorting once and summing by run serves all weights.
    run_starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    positives = np.add.reduceat(sorted_weights * positive, run_starts, axis=-1)  # (..., runs)
    negatives = np.add.reduceat(sorted_weights * ~positive, run_starts, axis=-1)
    # All negatives of lower runs, and half of those in the same run.
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, (positives * below).sum(axis=-1) / pairs, np.nan)[()]


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of −log p(label), in nats; probabilities are clipped to [CLIP, 1 − CLIP]."""
    p = np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p))))


def relative_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """RCE = 100 · (1 − log loss / log loss of predicting the labels' own rate for every row).

    0 is as good as that constant, 100 is perfect.
    Source: Belli et al., RecSys Challenge 2020, arXiv:2004.13715.
    """
    rate = float(np.mean(labels > 0))
    if rate in (0.0, 1.0):
        return float("nan")
    constant = np.full(len(labels), rate)
    return 100 * (1 - log_loss(labels, probabilities) / log_loss(labels, constant))


def metrics_by_label(
    labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
) -> dict[str, float]:
    """auc_<label>, log_loss_<label> and rce_<label> of each column, without the undefined ones.

    labels, probabilities: (n, labels); names: (labels,).
    """
    metrics: dict[str, float] = {}
    for column, name in enumerate(names):
        y = labels[:, column]
        p = probabilities[:, column]
        metrics[f"auc_{name}"] = float(auc(y, p))
        metrics[f"log_loss_{name}"] = log_loss(y, p)
        metrics[f"rce_{name}"] = relative_cross_entropy(y, p)
    return {name: value for name, value in metrics.items() if not np.isnan(value)}
