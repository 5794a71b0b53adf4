"""Interested in: linear regression of a consumer's degrees in every topic on its vector; mean NDCG.

A degree is the share of the consumer's engagements of a later day that are with the topic.
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.degrees import degrees, judge_degrees
from embeddings.benchmarks.tasks.base import Case, Judged
from embeddings.facts import Fact


class InterestedIn:
    TITLE = "interested in"
    METRICS = (Fact("ndcg", "mean NDCG of a consumer's topics", better="higher"),)
    LATER = True
    NEEDS = ("consumer_topics",)

    def judge(self, case: Case) -> Judged:
        assert case.consumer_topics is not None, "required by NEEDS"
        everybody = np.arange(len(case.consumer_ids))
        wanted = degrees(case.consumer_topics)
        return judge_degrees(case.consumer_ids, case.consumers, wanted, among=everybody)

    def rivals(self, case: Case) -> dict[str, Judged]:
        return {}


BENCHMARK = InterestedIn()
