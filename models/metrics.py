"""Metrics of a ranker's scores, and the curves behind them.

What is defined depends on the day's labels:

                             both classes    one class    no rows
    auc                      value           NaN          NaN
    log_loss                 value           value        NaN
    relative_cross_entropy   value           NaN          NaN
    normalised_rce           value           NaN          NaN
    gauc, ndcg               value *         NaN          NaN
    calibration_curve        points          points       no points
    roc_curve                points          no points    no points

    * of the users who have both classes; NaN where none has
"""

from __future__ import annotations

import numpy as np

from models.blocks import blocks

CLIP = 1e-7  # the least distance of a probability from 0 and 1, so that log losses are finite


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of −log p(label), in nats; probabilities are clipped to [CLIP, 1 − CLIP].

    NaN without rows.
    """
    if not len(labels):
        return float("nan")
    total = 0.0
    for rows in blocks(len(labels)):
        total += float(log_losses(labels[rows], probabilities[rows]).sum())
    return total / len(labels)


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """−log p(label) of every row, in nats, with probabilities clipped as above: (n,)."""
    p = np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP)
    # One logarithm a row instead of two: 1 − p is exact from ½ on, and right to 1e-16 below.
    return -np.log(np.where(labels > 0, p, 1 - p))


def relative_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """RCE = 100 · (1 − log loss / log loss of predicting the labels' own rate for every row).

    0 is as good as that constant, 100 is perfect; NaN unless both classes occur.
    Source: Belli et al., RecSys Challenge 2020, arXiv:2004.13715.
    """
    return relative_to_rate(labels, log_loss(labels, probabilities))


def relative_to_rate(labels: np.ndarray, loss: float) -> float:
    """RCE of predictions with this log loss, in %; NaN unless both classes occur."""
    return relative(loss, float(np.mean(labels > 0))) if len(labels) else float("nan")


def relative(loss: float, rate: float) -> float:
    """The same, of the log loss and of the share of the positives."""
    if not 0 < rate < 1:
        return float("nan")
    of_rate = np.array([rate, 1 - rate]) @ log_losses(np.array([1, 0]), np.array([rate, rate]))
    return float(100 * (1 - loss / of_rate))


def normalised_rce(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """RCE of probabilities that are scaled to the labels' own rate: what calibration cannot gain.

    Scaled ones above 1 are clipped. Source: NRCE of Twitter's the-algorithm-ml.
    """
    if not both_classes(labels):
        return float("nan")
    p = probabilities.astype(np.float64)
    return relative_cross_entropy(labels, p * np.mean(labels > 0) / np.mean(p))


def relative_improvement(auc: float, base: float) -> float:
    """RelaImp: 100 · ((AUC − ½) / (AUC of the base − ½) − 1), in %; NaN where the base is chance.

    Source: Yan et al.: Coupled Group Lasso for Web-Scale CTR Prediction, ICML 2014.
    """
    return 100 * ((auc - 0.5) / (base - 0.5) - 1) if base != 0.5 else float("nan")


def auc_by_user(
    users: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The AUC among the rows of each user, NaN unless it has both classes; and its rows.

    users: (n,) of any type, labels 0/1 and scores: (n,). Returns two arrays of length distinct
    users, ascending.
    """
    if not len(users):
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    _, user, rows = np.unique(users, return_inverse=True, return_counts=True)
    order = np.lexsort((scores, user))
    user, score, positive = user[order], scores[order], labels[order] > 0
    new = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    starts = np.flatnonzero(np.r_[True, new])  # of runs of equal scores of one user
    positives = np.add.reduceat(positive.astype(np.float64), starts)
    negatives = np.add.reduceat((~positive).astype(np.float64), starts)
    owner = user[starts]
    total_negatives = np.bincount(owner, negatives)
    before_user = np.cumsum(total_negatives) - total_negatives
    # The user's negatives in lower runs, and half of those in the same run.
    below = np.cumsum(negatives) - negatives / 2 - before_user[owner]
    pairs = np.bincount(owner, positives) * total_negatives
    with np.errstate(invalid="ignore"):
        return np.bincount(owner, positives * below) / np.where(pairs > 0, pairs, np.nan), rows


def gauc(users: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean AUC of the users who have both classes, weighted by their rows; NaN without such users.

    users, labels, scores: (n,). Source: Zhu et al.: Optimized Cost per Click in Taobao, KDD 2017.
    """
    values, rows = auc_by_user(users, labels, scores)
    defined = ~np.isnan(values)
    if not defined.any():
        return float("nan")
    return float(np.average(values[defined], weights=rows[defined]))


def ndcg(users: np.ndarray, labels: np.ndarray, scores: np.ndarray, top: int) -> float:
    """Mean of `ndcg_by_user` over the users who have both classes; NaN without such users."""
    values = ndcg_by_user(users, labels, scores, top)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def ndcg_by_user(users: np.ndarray, labels: np.ndarray, scores: np.ndarray, top: int) -> np.ndarray:
    """NDCG of the `top` highest scores of each user; NaN unless it has both classes.

    A positive at rank r (from 1) gains 1 / log2(r + 1). Equal scores stay in the order of the rows.
    users: (n,) of any type, labels 0/1 and scores: (n,). Returns (distinct users,), ascending.
    """
    _, user, rows = np.unique(users, return_inverse=True, return_counts=True)
    first = np.cumsum(rows) - rows  # row of each user's first, once sorted by user
    gained = gains(user, labels, -scores, first, top)
    ideal = gains(user, labels, -labels, first, top)
    positives = np.bincount(user, labels > 0, minlength=len(rows))
    both = (positives > 0) & (positives < rows)
    return np.where(both, gained / np.where(both, ideal, 1), np.nan)


def gains(
    user: np.ndarray, labels: np.ndarray, keys: np.ndarray, first: np.ndarray, top: int
) -> np.ndarray:
    """DCG of each user's `top` rows by ascending key: (users,).

    user: (n,) positions in `first`, the number of each user's first row after sorting.
    """
    order = np.lexsort((keys, user))
    rank = np.arange(len(order)) - first[user[order]]
    gain = np.where(rank < top, (labels[order] > 0) / np.log2(rank + 2), 0)
    return np.bincount(user[order], gain, minlength=len(first))


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
