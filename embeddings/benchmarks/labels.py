"""Labels of many classes at once: which are common enough, and how well scores tell them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Statistic
from embeddings.benchmarks.learning import Halves, logistic_scores
from embeddings.benchmarks.tasks.base import NotJudged

FEWEST_TO_FIT = 40  # of either class
FEWEST_JUDGED = 10  # of either class


@dataclass(frozen=True)
class Labels:
    """Yes or no of t questions about n entities. values, known: (n, t) bool."""

    values: np.ndarray
    known: np.ndarray

    @classmethod
    def all_known(cls, values: np.ndarray) -> Labels:
        return cls(values, np.ones_like(values))

    def columns(self, chosen: np.ndarray) -> Labels:
        """The chosen questions."""
        return Labels(self.values[:, chosen], self.known[:, chosen])

    def minority(self, rows: np.ndarray) -> np.ndarray:
        """The size of each question's smaller class among the known of these rows, (t,)."""
        known = self.known[rows]
        positive = (self.values[rows] & known).sum(axis=0)
        return np.minimum(positive, known.sum(axis=0) - positive)


def common_labels(labels: Labels, halves: Halves, most: int) -> Labels:
    """The `most` most balanced questions of which both classes are common.

    Raises NotJudged where there are none.
    """
    fit = labels.minority(halves.fit)
    common = np.flatnonzero(
        (fit >= FEWEST_TO_FIT) & (labels.minority(halves.judged) >= FEWEST_JUDGED)
    )
    if not len(common):
        raise NotJudged(
            f"no label is common enough: {FEWEST_TO_FIT} with and {FEWEST_TO_FIT} without it are "
            "needed to fit a model"
        )
    return labels.columns(common[np.argsort(-fit[common], kind="stable")[:most]])


def logistic_aucs(vectors: np.ndarray, labels: Labels, halves: Halves) -> Statistic:
    """The mean over questions of the ROC-AUC of a logistic regression on the vectors, (n, k).

    A question is fitted and judged on those of whom the answer is known.
    """
    questions = []
    for values, known in zip(labels.values.T, labels.known.T, strict=True):
        asked = halves.of_those(known)
        scores = logistic_scores(vectors, values, asked)
        questions.append((np.flatnonzero(known[halves.judged]), values[asked.judged], scores))

    def statistic(weights: np.ndarray | None = None) -> np.ndarray:
        aucs = []
        for places, values, scores in questions:
            own = None if weights is None else weights[..., places]
            aucs.append(auc(values, scores, own))
        return np.mean(aucs, axis=0)

    return statistic
