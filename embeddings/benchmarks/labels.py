"""Labels of many classes at once: which are common enough, and how well scores tell them."""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Statistic
from embeddings.benchmarks.learning import Halves
from embeddings.benchmarks.tasks.base import NotJudged

FEWEST_TO_FIT = 40  # of either class
FEWEST_JUDGED = 10  # of either class


def common_labels(labels: np.ndarray, halves: Halves, most: int) -> np.ndarray:
    """The `most` most balanced columns of which both classes are common. labels: (n, t) bool.

    Raises NotJudged where there are none.
    """
    fit = minority(labels[halves.fit])
    judged = minority(labels[halves.judged])
    common = np.flatnonzero((fit >= FEWEST_TO_FIT) & (judged >= FEWEST_JUDGED))
    if not len(common):
        raise NotJudged(
            f"no label is common enough: {FEWEST_TO_FIT} with and {FEWEST_TO_FIT} without it are "
            "needed to fit a model"
        )
    chosen = common[np.argsort(-fit[common], kind="stable")[:most]]
    return labels[:, chosen]


def minority(labels: np.ndarray) -> np.ndarray:
    """The size of each column's smaller class, (t,)."""
    positive = labels.sum(axis=0)
    return np.minimum(positive, len(labels) - positive)


def mean_auc(labels: np.ndarray, scores: np.ndarray) -> Statistic:
    """The mean ROC-AUC over columns, of weighted rows. labels, scores: (n, t)."""

    def statistic(weights: np.ndarray | None = None) -> np.ndarray:
        each = [auc(*column, weights) for column in zip(labels.T, scores.T, strict=True)]
        return np.mean(each, axis=0)

    return statistic
