"""Next-day retrieval: do the engagements of a later day have the largest products of vectors?

All of a consumer's engagements of that day count, also those with producers that the version does
not have, which it cannot find. A consumer that it does not have is shown the most popular ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import scipy.sparse as sp

from embeddings.baselines.ease import ease_of_top
from embeddings.baselines.item_item import cosines_of_columns
from embeddings.benchmarks.intervals import weighted_mean
from embeddings.benchmarks.metrics import Ranking, rank, rank_scores
from embeddings.benchmarks.tasks.base import Case, Judged, NotJudged
from embeddings.facts import Fact

FEWEST = 20  # consumers
MOST = 2000  # producers of EASE: its inverse then takes half a second
PENALTY = 300.0  # of EASE, in mean squared strengths: fair on all logs of docs/table1.md


class Retrieval:
    TITLE = "next-day retrieval"
    METRICS = (
        Fact("ndcg20", "NDCG@20 of the later day's engagements", better="higher"),
        Fact(
            "recall100",
            "share of the later day's engagements among the first 100",
            "share",
            "higher",
        ),
    )
    LATER = True
    NEEDS = ("engaged", "elsewhere")

    def judge(self, case: Case) -> Judged:
        rows, engaged, elsewhere = active(case)
        ranking = rank(
            case.consumers[rows],
            case.producers,
            seen=sp.csr_matrix(engaged.shape),
            relevant=engaged,
            popularity=case.producer_counts.astype(np.float32),
        )
        return judged(ranking, elsewhere)

    def rivals(self, case: Case) -> dict[str, Judged]:
        """What needs no vectors, learned from the window of those who are judged.

        co_occurrence   the window's strengths times the producers' cosines
        ease_of_2000    EASE of the producers with the most consumers, at most so many
        """
        rows, engaged, elsewhere = active(case)
        near = cosines_of_columns(case.window)
        history = case.window[rows]
        popular = case.producer_counts / (1 + case.producer_counts.max(initial=0))

        def scores(chunk: slice) -> np.ndarray:
            # Of producers without any co-occurrence, the more popular one comes first.
            found = (history[chunk] @ near).toarray()
            return (found + 1e-6 * popular).astype(np.float32)

        ranked = rank_scores(scores, engaged)
        return {
            "co_occurrence": judged(ranked, elsewhere),
            f"ease_of_{MOST}": judged(rank_scores(ease_scores(case, rows), engaged), elsewhere),
        }


def ease_scores(case: Case, rows: np.ndarray) -> Callable[[slice], np.ndarray]:
    """The scores of these consumers by EASE, as `rank_scores` asks for them."""
    strength = float(np.mean(case.window.data**2)) if case.window.nnz else 1.0
    score = ease_of_top(case.window, PENALTY * strength, MOST)
    return lambda chunk: score(case.window[rows[chunk]])


def active(case: Case) -> tuple[np.ndarray, sp.csr_matrix, np.ndarray]:
    """The r consumers with an engagement on the later day. Raises NotJudged.

    Returns their rows, (r,), their engagements, (r, m), and how many producers each engaged with
    that the version lacks, (r,).
    """
    assert case.engaged is not None, "required by NEEDS"
    assert case.elsewhere is not None, "required by NEEDS"
    rows = np.flatnonzero(np.diff(case.engaged.indptr) + case.elsewhere)
    if len(rows) < FEWEST:
        raise NotJudged(f"only {len(rows)} consumers engaged, fewer than {FEWEST}")
    return rows, case.engaged[rows], case.elsewhere[rows]


def judged(ranking: Ranking, elsewhere: np.ndarray) -> Judged:
    ranking = ranking.with_missing(elsewhere)
    values: Mapping[str, np.ndarray] = {
        "ndcg20": ranking.ndcg(20),
        "recall100": ranking.recall(100),
    }
    statistics = {metric: partial(weighted_mean, column) for metric, column in values.items()}
    return Judged(len(elsewhere), statistics)


BENCHMARK = Retrieval()
