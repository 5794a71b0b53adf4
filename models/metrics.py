"""How good scores are. NaN where a metric is not defined (one class only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """P(score of a positive > score of a negative), ties count half, each pair by the product of its weights.

    labels 0/1 and scores: (n,). weights >= 0: (..., n), by default ones; one AUC for every leading index.
    """
    order = np.argsort(scores, kind="stable")
    weights = np.ones((len(scores),)) if weights is None else np.asarray(weights)
    sorted_scores, positive = scores[order], labels[order] > 0
    starts = np.flatnonzero(
        np.r_[True, sorted_scores[1:] != sorted_scores[:-1]]
    )  # of each run of equal scores
    sorted_weights = weights[..., order].astype(np.float64)
    positives = np.add.reduceat(sorted_weights * positive, starts, axis=-1)  # (..., runs)
    negatives = np.add.reduceat(sorted_weights * ~positive, starts, axis=-1)
    below = (
        np.cumsum(negatives, axis=-1) - negatives / 2
    )  # negatives below a run, and half of those in it
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, (positives * below).sum(axis=-1) / pairs, np.nan)[()]


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log p(what happened), in nats; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p))))


def relative_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """RCE = 100 · (1 - log loss / log loss of always guessing these labels' own rate): 0 knows nothing, 100 everything.

    Source: Belli et al., RecSys Challenge 2020, arXiv:2004.13715.
    """
    rate = float(np.mean(labels > 0))
    if rate in (0.0, 1.0):
        return float("nan")
    return 100 * (
        1 - log_loss(labels, probabilities) / log_loss(labels, np.full(len(labels), rate))
    )


def metrics_by_label(
    labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
) -> dict[str, float]:
    """auc_<label>, log_loss_<label> and rce_<label> of each column; what is not defined is left out."""
    found: dict[str, float] = {}
    for column, name in enumerate(names):
        y, p = labels[:, column], probabilities[:, column]
        found |= {
            f"auc_{name}": float(auc(y, p)),
            f"log_loss_{name}": log_loss(y, p),
            f"rce_{name}": relative_cross_entropy(y, p),
        }
    return {name: value for name, value in found.items() if not np.isnan(value)}


@dataclass(frozen=True)
class Interval:
    """A difference, its bootstrap interval, and the resampled differences behind it."""

    difference: float
    low: float
    high: float
    resamples: np.ndarray


def paired_bootstrap(
    users: np.ndarray,
    labels: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """AUC(new) - AUC(old) on the same rows, with the interval that resampling whole users gives.

    users: (n,) any kind of id. Users are drawn with replacement, each with all of its rows, since rows of one user are
    not independent; both models are judged on the same draw. Resamples without both classes are left out.
    """
    _, row_user = np.unique(users, return_inverse=True)
    n_users = int(row_user.max()) + 1
    rng = np.random.default_rng(seed)
    differences = []
    for start in range(0, resamples, 50):  # fifty at a time: memory is 50 · n
        draws = rng.multinomial(
            n_users, np.full(n_users, 1 / n_users), size=min(50, resamples - start)
        )
        weights = draws[:, row_user]  # (<= 50, n)
        differences.append(auc(labels, new, weights) - auc(labels, old, weights))
    drawn = np.concatenate(differences)
    drawn = drawn[~np.isnan(drawn)]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(auc(labels, new) - auc(labels, old)), float(low), float(high), drawn)
