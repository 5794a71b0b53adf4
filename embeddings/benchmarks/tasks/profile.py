"""Metadata prediction: what do consumer vectors tell of the columns of a profile?

A label is a value of a category, or a number above its median. Logistic regression, one label at a
time; the mean ROC-AUC over labels.
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.labels import Labels, common_labels, logistic_aucs
from embeddings.benchmarks.learning import Halves
from embeddings.benchmarks.tasks.base import Case, Judged, NotJudged
from embeddings.facts import Fact

MOST = 20  # labels
VALUES = 20  # categories with more values are ids, not profiles


class Profile:
    TITLE = "metadata prediction"
    METRICS = (Fact("auc", "mean ROC-AUC of the columns of the profiles", better="higher"),)
    LATER = False
    NEEDS = ("profiles",)

    def judge(self, case: Case) -> Judged:
        labels = profile_labels(case)
        # Of others neither the vector nor the profile is known.
        rows = np.flatnonzero((case.consumer_counts > 0) & labels.known.any(axis=1))
        halves = Halves.of(case.consumer_ids, rows)
        common = common_labels(labels, halves, MOST)
        return Judged(len(halves.judged), {"auc": logistic_aucs(case.consumers, common, halves)})

    def rivals(self, case: Case) -> dict[str, Judged]:
        return {}


def profile_labels(case: Case) -> Labels:
    """One question for every value of a category, one for every number. Raises NotJudged."""
    assert case.profiles is not None, "required by NEEDS"
    values, known = [], []
    for column in case.profiles.values():
        if column.dtype.kind == "f":
            there = ~np.isnan(column)
            answers = [column > np.median(column[there])] if there.any() else []
        else:
            there = column != ""
            answers = [column == value for value in categories(column[there])]
        values += answers
        known += [there] * len(answers)
    if not values:
        raise NotJudged("no label: the profiles have no column with a few values")
    return Labels(np.column_stack(values), np.column_stack(known))


def categories(column: np.ndarray) -> np.ndarray:
    """The values to ask for: none of a column with one value or with many."""
    distinct = np.unique(column)
    if len(distinct) == 2:
        return distinct[:1]  # the other one is its opposite
    return distinct if 2 < len(distinct) <= VALUES else distinct[:0]


BENCHMARK = Profile()
