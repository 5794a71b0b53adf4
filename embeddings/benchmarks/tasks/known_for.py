"""Known for: linear regression of a producer's degrees in every topic on its vector; mean NDCG.

A degree is the share of the producer's items that have the topic.
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.degrees import degrees, judge_degrees
from embeddings.benchmarks.tasks.base import Case, Judged
from embeddings.facts import Fact

TOP = 5000  # producers, by their consumers


class KnownFor:
    TITLE = "known for"
    METRICS = (Fact("ndcg", "mean NDCG of a producer's topics", better="higher"),)
    LATER = False
    NEEDS = ("producer_topics",)

    def judge(self, case: Case) -> Judged:
        assert case.producer_topics is not None, "required by NEEDS"
        top = np.sort(np.argsort(-case.producer_counts, kind="stable")[:TOP])
        return judge_degrees(
            case.producer_ids, case.producers, degrees(case.producer_topics), among=top
        )

    def rivals(self, case: Case) -> dict[str, Judged]:
        return {}


BENCHMARK = KnownFor()
