"""Judging a version: every task, each with its baselines and with intervals.

The baselines are vectors too, so that every task has them: `random` ones, and `popularity`, which
knows of each consumer and producer only how active they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from math import isfinite

import numpy as np

from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from embeddings.benchmarks.results import Result
from embeddings.benchmarks.tasks.base import Benchmark, Case, NotJudged
from embeddings.sampling import noise

RESAMPLES = 200
SEED = 0  # of the resamples; the same for all versions, so that they compare


def measure(
    name: str, task: Benchmark, case: Case, on: date, dim: int = 0, with_rivals: bool = True
) -> list[Result]:
    """The results of one task, without metrics that are undefined. Raises NotJudged.

    on: the day of the labels. dim: judge the vectors shortened to this length; 0: whole ones.
    with_rivals: also what needs no vectors, which takes longer than all else.
    """
    require(task, case)
    case = case.shortened(dim) if dim else case
    judged = task.judge(case)
    rivals = {kind: task.judge(make(case)) for kind, make in BASELINES.items()}
    if with_rivals:
        rivals |= task.rivals(case)
    estimates = user_bootstrap(np.arange(judged.n), judged.statistics, RESAMPLES, SEED)
    results = []
    for metric, estimate in estimates.items():
        baselines = {}
        for kind, rival in rivals.items():
            value = float(rival.statistics[metric]())
            if isfinite(value):  # vectors that are all alike have no correlation with anything
                baselines[kind] = value
        interval = (estimate.value, estimate.low, estimate.high)
        if all(map(isfinite, interval)):
            results.append(Result(name, metric, on, *interval, judged.n, baselines, dim))
    return results


def difference(task: Benchmark, newer: Case, older: Case) -> dict[str, Estimate]:
    """By metric, how much better the newer version is than the older on the same consumers.

    Both cases have the same consumers with the same labels: the resamples are paired. Raises
    NotJudged.
    """
    statistics = {}
    judged = {}
    for age, case in (("newer", newer), ("older", older)):
        require(task, case)
        judged[age] = task.judge(case)
        for metric, statistic in judged[age].statistics.items():
            statistics[age, metric] = statistic
    users = np.arange(judged["newer"].n)
    estimates = user_bootstrap(users, statistics, RESAMPLES, SEED)
    found = {}
    for metric in judged["newer"].statistics:
        found[metric] = estimates["newer", metric] - estimates["older", metric]
    return found


def require(task: Benchmark, case: Case) -> None:
    """Raises NotJudged where the case lacks something that the task needs."""
    for need in task.NEEDS:
        if getattr(case, need) is None:
            raise NotJudged(f"there are no {need.replace('_', ' ')}")


def random_vectors(case: Case) -> Case:
    """The case with vectors that depend on the ids alone."""
    width = case.producers.shape[1]
    return replace(
        case,
        consumers=noise(case.consumer_ids, width),
        producers=noise(case.producer_ids, width),
    )


def activity_vectors(case: Case) -> Case:
    """The case with vectors (1, log(1 + count)) and (log(1 + count), 0).

    Their product ranks producers by popularity, and a linear model of them knows the activity.
    """
    consumers = np.log1p(case.consumer_counts)
    producers = np.log1p(case.producer_counts)
    return replace(
        case,
        consumers=np.column_stack([np.ones_like(consumers), consumers]).astype(np.float32),
        producers=np.column_stack([producers, np.zeros_like(producers)]).astype(np.float32),
    )


BASELINES: dict[str, Callable[[Case], Case]] = {
    "random": random_vectors,
    "popularity": activity_vectors,
}
