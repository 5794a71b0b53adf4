"""Rankers in a trial: trained in one way, they score the same rows; the figures of their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embeddings.benchmarks.auc import auc
from jobs.reports.report import Row
from models.metrics import gauc, log_loss, ndcg, relative_cross_entropy

TOP = 5  # of the items shown to a user, by score


@dataclass(frozen=True)
class Outcome:
    """What a trained ranker made of the test.

    scores: (n,) probabilities; rows_s: rows trained on per second of CPU.
    """

    scores: np.ndarray
    rows_s: float
    parameters: int


class Trial(Protocol):
    """Rows to train on, and n others to test on."""

    data: str  # name of the data set
    test: str  # name of the test rows: a day, where there are several
    users: np.ndarray  # (n,) ids, for figures by user and intervals
    labels: np.ndarray  # (n,) 0/1

    def fit(self, kind: str, seed: int) -> Outcome:
        """Train a ranker of this kind, and score the test rows."""
        ...


def figures_of(trial: Trial, outcome: Outcome) -> Row:
    """The figures of one trained ranker, by column."""
    scores = outcome.scores
    return {
        "auc": float(auc(trial.labels, scores)),
        "log_loss": log_loss(trial.labels, scores),
        "rce": relative_cross_entropy(trial.labels, scores),
        "gauc": gauc(trial.users, trial.labels, scores),
        f"ndcg_{TOP}": ndcg(trial.users, trial.labels, scores, TOP),
        "rows_s": outcome.rows_s,
        "parameters": float(outcome.parameters),
    }
