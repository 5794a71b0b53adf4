"""E-mails as a problem: who received one, what is known of the receivers, and who clicked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BUCKETS = 9  # of users, by activity: as many as in the paper
BASE = "wide & deep"
WITH_CONSUMER = "+ consumer embedding"
WITH_BOTH = "+ both embeddings"  # that of what the e-mail is about as well
RANKERS = (BASE, WITH_CONSUMER, WITH_BOTH)


@dataclass(frozen=True)
class Mailing:
    """n e-mails to be scored.

    words: what stands for an e-mail, and what an embedding is of. users: (n,) of any type; labels:
    (n,) 0/1; activity: (n,), what each user did before. score: a ranker of RANKERS and a seed ->
    (n,) probabilities, each call a training of its own. truth: (n,), what no ranker surpasses; None
    where nobody knows.
    """

    name: str
    words: str
    users: np.ndarray
    labels: np.ndarray
    activity: np.ndarray
    score: Callable[[str, int], np.ndarray]
    truth: np.ndarray | None = None

    def buckets(self) -> list[np.ndarray]:
        """The rows of each bucket, least active first: as many users in each, up to ties of ids."""
        ids, first, own = np.unique(self.users, return_index=True, return_inverse=True)
        order = np.argsort(self.activity[first], kind="stable")
        rank = np.empty(len(ids), np.int64)
        rank[order] = np.arange(len(ids))
        numbers = (rank * BUCKETS // len(ids))[own]
        return [np.flatnonzero(numbers == bucket) for bucket in range(BUCKETS)]
