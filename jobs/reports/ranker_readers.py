"""A ranker as the reader of a space: trained once, against one trained again on later vectors.

Both are trained on START days, each with the vectors of the day before it, and read profile,
context and vectors, without ids and past counts. They rank the impressions of a later day with the
vectors of the day before that, as `align` brings them; "best rotation" is trained once, and served
them as the best rotation to the vectors of its last day alone brings them.
"""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.intervals import share_of_gain
from jobs.reports.daily_log import Log
from jobs.reports.daily_versions import align, daily_versions
from jobs.reports.frozen_rankers import RankingDays, ScoredRows
from jobs.reports.methods import Method
from jobs.reports.readers import AGAIN, BEST, FROZEN, NONE, OLD
from jobs.reports.report import ReportProgress, Row
from jobs.settings import Settings

START = 3


def ranker_rows(
    log: Log, method: Method, settings: Settings, seed: int, progress: ReportProgress
) -> list[Row]:
    """One row per age of the ranker that is trained once, in days.

    Raises EvergreenError for a log with too few days of impressions.
    """
    days = RankingDays.from_log(log, settings, seed, START)
    versions = align(daily_versions(log, method, settings, seed, progress))
    once = days.train_ranker(START, versions)
    frozen = versions[days.first + START - 1]
    rows = []
    for number in days.days_after(START):
        age = number - (days.first + START - 1)
        progress(f"a ranker {age} days later, seed {seed}")
        again = days.train_ranker(START, versions, last=number - 1)
        examples = days.examples(number, versions[number - 1])
        scores = {
            FROZEN: once.score(examples),
            AGAIN: again.score(examples),
            BEST: once.score(days.examples(number, versions[number - 1].aligned_to(frozen))),
            OLD: once.score(days.examples(number, frozen)),
            NONE: np.zeros(len(examples.labels)),
        }
        scored = ScoredRows(examples.consumer_rows, examples.labels[:, 0], scores)
        rows.append({"age": age, "rows": len(examples.labels)} | row_of(scored, seed))
    return rows


def row_of(scored: ScoredRows, seed: int) -> Row:
    """The AUCs, and the share of the gain over chance that a ranker keeps that is trained once."""
    aucs = scored.aucs(seed)
    row: Row = {}
    for way in (FROZEN, AGAIN, BEST, OLD):
        row[way] = aucs[way].value
    for name, other in (("share of again", AGAIN), ("share of best", BEST)):
        row |= share_of_gain(aucs[FROZEN], aucs[other], aucs[NONE]).fields(name)
    return row | (aucs[FROZEN] - aucs[OLD]).fields("over old vectors")
