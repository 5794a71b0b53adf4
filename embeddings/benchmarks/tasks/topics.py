"""User topic prediction: which topics will a consumer engage with on a later day?

One-vs-rest logistic regression on consumer vectors; the mean ROC-AUC over topics.
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.labels import Labels, common_labels, logistic_aucs
from embeddings.benchmarks.learning import Halves
from embeddings.benchmarks.tasks.base import Case, Judged
from embeddings.facts import Fact

MOST = 30  # topics


class Topics:
    TITLE = "user topic prediction"
    METRICS = (
        Fact("auc", "mean ROC-AUC of the topics that a consumer engages with", better="higher"),
    )
    LATER = True
    NEEDS = ("consumer_topics",)

    def judge(self, case: Case) -> Judged:
        assert case.consumer_topics is not None, "required by NEEDS"
        rows = np.flatnonzero(np.diff(case.consumer_topics.indptr))
        halves = Halves.of(case.consumer_ids, rows)
        labels = Labels.all_known(case.consumer_topics.toarray() > 0)
        common = common_labels(labels, halves, MOST)
        return Judged(len(halves.judged), {"auc": logistic_aucs(case.consumers, common, halves)})

    def rivals(self, case: Case) -> dict[str, Judged]:
        return {}


BENCHMARK = Topics()
