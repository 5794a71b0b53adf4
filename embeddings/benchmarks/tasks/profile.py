"""Metadata prediction: what do consumer vectors tell of the columns of a profile?

A label is a value of a category, or a number above its median. Logistic regression, one label at a
time; the mean ROC-AUC over labels.
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.labels import common_labels, mean_auc
from embeddings.benchmarks.learning import Halves, logistic_scores
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
        halves = Halves.of(case.consumer_ids, np.flatnonzero(case.consumer_counts))
        common = common_labels(labels, halves, MOST)
        scores = logistic_scores(case.consumers, common, halves)
        return Judged(len(halves.judged), {"auc": mean_auc(common[halves.judged], scores)})

    def rivals(self, case: Case) -> dict[str, Judged]:
        return {}


def profile_labels(case: Case) -> np.ndarray:
    """(n, t) bool: one column for every value of a category, one for every number."""
    assert case.profiles is not None, "required by NEEDS"
    columns = []
    for values in case.profiles.values():
        if values.dtype.kind == "f":
            known = values[~np.isnan(values)]
            if len(known):
                columns.append(values > np.median(known))
        else:
            distinct = np.unique(values)
            distinct = distinct[distinct != ""]
            if 1 < len(distinct) <= VALUES:
                # Of two values, one says it all.
                chosen = distinct[:1] if len(distinct) == 2 else distinct
                columns += [values == value for value in chosen]
    if not columns:
        raise NotJudged("the profiles have no column with a few values")
    return np.column_stack(columns)


BENCHMARK = Profile()
