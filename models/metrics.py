"""Metrics of a ranker's scores, and the curves behind them.

What is defined depends on the day's labels:

                             both classes    one class    no rows
    auc                      value           NaN          NaN
    log_loss                 value           value        NaN
    relative_cross_entropy   value           NaN          NaN
    metrics_by_label         all three       log loss     {}
    calibration_curve        points          points       no points
    roc_curve                points          no points    no points
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.auc import auc

CLIP = 1e-7  # the least distance of a probability from 0 and 1, so that log losses are finite


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of −log p(label), in nats; probabilities are clipped to [CLIP, 1 − CLIP].

    NaN without rows.
    """
    if not len(labels):
        return float("nan")
    p = np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p))))


def relative_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """RCE = 100 · (1 − log loss / log loss of predicting the labels' own rate for every row).

    0 is as good as that constant, 100 is perfect; NaN unless both classes occur.
    Source: Belli et al., RecSys Challenge 2020, arXiv:2004.13715.
    """
    if not both_classes(labels):
        return float("nan")
    rate = float(np.mean(labels > 0))
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


def both_classes(labels: np.ndarray) -> bool:
    """Is there a positive and a negative among the labels? (n,), n >= 0."""
    positive = labels > 0
    return bool(positive.any() and not positive.all())


def calibration_curve(
    labels: np.ndarray, probabilities: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability and share of positives, in bins of equally many rows, by probability.

    labels, probabilities: (n,). Returns two arrays of length min(bins, n).
    """
    order = np.argsort(probabilities, kind="stable")  # ties in the order of the rows
    predicted = []
    happened = []
    if len(order):
        for rows in np.array_split(order, min(bins, len(order))):
            predicted.append(probabilities[rows].mean())
            happened.append(labels[rows].mean())
    return np.array(predicted), np.array(happened)


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the negatives and of the positives with the highest scores, at every threshold.

    labels, scores: (n,). Returns two arrays of length n; of length 0 unless both classes occur.
    """
    if not both_classes(labels):
        return np.zeros(0), np.zeros(0)
    positives = labels[np.argsort(-scores, kind="stable")] > 0
    false_positives = np.cumsum(~positives) / (~positives).sum()
    true_positives = np.cumsum(positives) / positives.sum()
    return false_positives, true_positives
