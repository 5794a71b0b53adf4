"""Rankers in a trial: trained in one way, they score the same rows; the figures of their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from embeddings.benchmarks.auc import auc
from jobs.reports.report import Row
from models.features import Day
from models.metrics import gauc, log_loss, ndcg, relative_cross_entropy

if TYPE_CHECKING:
    from models.rankers.base import Ranker, RankerOptions

# Of labels and scores, (n,), with weights (..., n) or None: (...).
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
TOP = 5  # of the items shown to a user, by score


@dataclass(frozen=True)
class Outcome:
    """What a trained ranker made of the test.

    scores: (n,) probabilities; rows_s: rows trained on per second of CPU.
    """

    scores: np.ndarray
    rows_s: float
    model: Ranker


class Trial(Protocol):
    """Rows to train on, and n others to test on."""

    data: str  # name of the data set
    test: str  # name of the test rows: a day, where there are several
    users: np.ndarray  # (n,) ids, for figures by user and intervals
    labels: np.ndarray  # (n,) 0/1, the tested label
    label: int  # its column among the labels that rankers learn

    def tested_rows(self) -> Day:
        """The n rows to test on, as a ranker reads them."""
        ...

    def keep(self, rows: int) -> None:
        """Train on no more than so many rows, the newest ones where rows have an order."""
        ...

    def options(self, kind: str) -> RankerOptions:
        """The options that a kind has in this trial."""
        ...

    def fit(self, kind: str, seed: int, options: RankerOptions | None = None) -> Outcome:
        """Train a ranker of this kind, by default with its `options`, and score the test rows."""
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
        "parameters": float(sum(weights.numel() for weights in outcome.model.parameters())),
    }


def mean_metric(
    metric: Metric,
    labels: list[np.ndarray],
    scores: list[list[np.ndarray]],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The mean of a metric over tests and seeds.

    labels: (n_t,) of each test; scores: the same, of every seed. weights: (..., Σ n_t) of the rows
    of all tests behind each other. Returns (...).
    """
    values = []
    start = 0
    for y, of_seeds in zip(labels, scores, strict=True):
        part = None if weights is None else weights[..., start : start + len(y)]
        start += len(y)
        values += [metric(y, s, part) for s in of_seeds]
    return np.mean(values, axis=0)
