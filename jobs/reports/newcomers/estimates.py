"""Figures of the example tasks: the mean over seeds, with paired intervals by user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, user_bootstrap, weighted_mean

RESAMPLES, SEED = 200, 0
SCORED = "{value:.{digits}f} ±{half:.{digits}f}"

# Of labels and scores, (n,), and weights (..., n) or None: (...).
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
Scores = Mapping[str, Sequence[np.ndarray]]  # ranker -> probabilities of every seed, (n,)


def rce(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Relative cross entropy of weighted rows, in percent: see `models.metrics`.

    weights: (..., n), default ones. Returns (...); NaN where the labels are of one class.
    """
    from models.metrics import log_losses

    losses = weighted_mean(log_losses(labels, scores), weights)
    rate = weighted_mean(labels.astype(np.float64), weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        constant = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
        return 100 * (1 - losses / constant)


def mean_over_seeds(
    metric: Metric,
    labels: np.ndarray,
    of_seeds: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    return np.mean([metric(labels, scores, weights) for scores in of_seeds], axis=0)


def estimates(
    metrics: Mapping[str, Metric], users: np.ndarray, labels: np.ndarray, scores: Scores
) -> dict[tuple[str, str], Estimate]:
    """Every metric of every ranker, by (metric, ranker), on the same resamples of users."""
    statistics = {}
    for name, metric in metrics.items():
        for ranker, of_seeds in scores.items():
            statistics[name, ranker] = partial(mean_over_seeds, metric, labels, of_seeds)
    return user_bootstrap(users, statistics, RESAMPLES, SEED)


def of_rows(
    rows: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The AUC among some of the rows."""
    part = None if weights is None else weights[..., rows]
    return auc(labels[rows], scores[rows], part)


def mean_of_parts(
    parts: Sequence[np.ndarray],
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The mean of the AUCs among the rows of each part."""
    return np.mean([of_rows(rows, labels, scores, weights) for rows in parts], axis=0)


def plus_minus(estimate: Estimate, digits: int = 3) -> str:
    """A figure with half the width of its interval."""
    half = (estimate.high - estimate.low) / 2
    return SCORED.format(value=estimate.value, half=half, digits=digits)


def with_ends(estimate: Estimate, digits: int = 3) -> str:
    """A figure with its interval; a gain is certain where the interval leaves out 0."""
    return f"{estimate.value:+.{digits}f} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"
