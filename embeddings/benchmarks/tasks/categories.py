"""Producer categories: multinomial logistic regression on the vectors of the top producers.

A producer's category is the most frequent topic of its items. Source: the task LOS-Accounts of
Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings".
"""

from __future__ import annotations

from functools import partial

import numpy as np

from embeddings.benchmarks.intervals import weighted_mean
from embeddings.benchmarks.learning import Halves, logistic_classes
from embeddings.benchmarks.tasks.base import Case, Judged, NotJudged
from embeddings.facts import Fact

TOP = 2000  # producers, by their consumers
FEWEST_OF_CATEGORY = 20  # producers; smaller categories are left out
FEWEST = 100  # producers


class Categories:
    TITLE = "producer categories"
    METRICS = (
        Fact(
            "accuracy",
            "share of categories predicted correctly",
            "share",
            "higher",
        ),
    )
    LATER = False
    NEEDS = ("producer_topics",)

    def judge(self, case: Case) -> Judged:
        rows, category = labelled(case)
        halves = Halves.of(case.producer_ids, rows)
        predicted = logistic_classes(case.producers, category, halves)
        return accuracy(predicted == category[halves.judged])

    def rivals(self, case: Case) -> dict[str, Judged]:
        """The most frequent category for every producer."""
        rows, category = labelled(case)
        halves = Halves.of(case.producer_ids, rows)
        most_frequent = np.bincount(category[halves.fit]).argmax()
        return {"most_frequent": accuracy(category[halves.judged] == most_frequent)}


def labelled(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the top producers, and the category of every producer, (m,), -1 for none.

    Raises NotJudged.
    """
    assert case.producer_topics is not None, "required by NEEDS"
    topics = case.producer_topics.toarray()
    category = np.where(topics.any(axis=1), topics.argmax(axis=1), -1)
    top = np.argsort(-case.producer_counts, kind="stable")[:TOP]
    rows = np.sort(top[category[top] >= 0])
    sizes = np.bincount(category[rows], minlength=topics.shape[1])
    rows = rows[sizes[category[rows]] >= FEWEST_OF_CATEGORY]
    if len(rows) < FEWEST or len(np.unique(category[rows])) < 2:
        raise NotJudged(
            f"only {len(rows)} of the top producers are of a category with "
            f"{FEWEST_OF_CATEGORY} of them; {FEWEST} in two or more are needed"
        )
    return rows, category


def accuracy(right: np.ndarray) -> Judged:
    return Judged(len(right), {"accuracy": partial(weighted_mean, right.astype(np.float64))})


BENCHMARK = Categories()
