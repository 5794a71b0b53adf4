"""The log of the settings as a problem: its last days to learn from, and the day after them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.registry.vectors import encode_ids
from embeddings.sampling import smallest_hashes
from jobs.errors import Skip
from jobs.judging.labels import (
    Engagements,
    read_engagements,
    read_topics,
    with_consumer_topics,
    with_producer_topics,
    with_profiles,
)
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.lake.store import Partition
from jobs.pipeline.running import ensure
from jobs.reports.daily_log import days_of
from jobs.reports.tables.problem import Pairs, Problem, joined, problem_of
from jobs.settings import Settings
from jobs.spark.session import spark_session

if TYPE_CHECKING:
    from embeddings.benchmarks.tasks.base import Case

EVERYBODY = 2**62  # more consumers than any log has
PROFILES = 10_000  # consumers, at most, whose profiles are asked for, as in the daily benchmark
COLUMNS = ["consumer_id", "producer_id", "kind", "value"]


def own_problem(settings: Settings) -> Problem | str:
    """The engagements of `matrix.window_days` days, and those of the last trusted day after them.

    Methods are tuned on the last day of the window. Topics are those of the items engaged with on
    the tested day. A message where fewer than three days are trusted.
    """
    name = settings.source.kind
    days = trusted_days(settings)
    if len(days) < 3:
        return (
            f"{name} left out: the log has {len(days)} trusted days. Methods learn from one, are "
            "tuned on the next and tested on the one after it. Use a longer log."
        )
    *window, tested = days[-settings.matrix.window_days - 1 :]
    by_day = [pairs_of(day, settings.matrix.weights) for day in window]
    pairs = joined(by_day)
    last = np.arange(len(pairs)) >= len(pairs) - len(by_day[-1])
    kept = of_popular(pairs.producers, settings.matrix.producers)
    later = pairs_of(tested, settings.matrix.weights)
    problem = problem_of(name, pairs.only(kept), last[kept], later, repeats=True)
    return replace(problem, case=labelled(problem.case, settings, tested))


def of_popular(producers: np.ndarray, most: int) -> np.ndarray:
    """Which rows are of the `most` producers with the most rows: (r,) bool."""
    ids, numbers, counts = np.unique(producers, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(ids), bool)
    chosen[np.argsort(-counts, kind="stable")[:most]] = True
    return chosen[numbers]


def trusted_days(settings: Settings) -> list[Partition]:
    """The validated days that are trusted and have engagements, oldest first."""
    found = []
    for day in days_of(settings):
        try:
            partition = ensure(settings, "validate", day, lambda: spark_session(settings)).partition
        except Skip:
            continue
        if partition.facts["trusted"] and partition.has(ENGAGEMENT_TABLE):
            found.append(partition)
    return found


def pairs_of(day: Partition, weights: dict[str, float]) -> Pairs:
    """The day's engagements with their strengths: weight of the kind times value."""
    parts = [pq.read_table(part.path, columns=COLUMNS) for part in day.parts(ENGAGEMENT_TABLE)]
    table = pa.concat_tables(parts).to_pandas().dropna()
    strengths = (table["kind"].map(weights).fillna(1.0) * table["value"]).to_numpy(np.float64)
    counted = table[strengths > 0]
    return Pairs(
        encode_ids(counted["consumer_id"].to_numpy()),
        encode_ids(counted["producer_id"].to_numpy()),
        strengths[strengths > 0],
    )


def labelled(case: Case, settings: Settings, day: Partition) -> Case:
    """The case with the topics and profiles of a day."""
    engaged = read_engagements(day, settings.matrix.weights, EVERYBODY)
    rows = np.searchsorted(case.consumer_ids, engaged.consumer_ids)[engaged.consumers]
    engaged = Engagements(case.consumer_ids, rows, engaged.producer_ids, engaged.item_ids)
    topics = read_topics(day, settings.benchmark.topic_column)
    case = with_consumer_topics(with_producer_topics(case, topics), engaged, topics)
    return with_some_profiles(with_profiles(case, day))


def with_some_profiles(case: Case) -> Case:
    """The case where the profiles of all but some consumers are unknown: those would take long."""
    if case.profiles is None:
        return case
    others = np.ones(len(case.consumer_ids), bool)
    others[smallest_hashes(case.consumer_ids, PROFILES)] = False
    profiles = {}
    for name, column in case.profiles.items():
        unknown = np.nan if column.dtype.kind == "f" else ""
        profiles[name] = np.where(others, np.array(unknown, column.dtype), column)
    return replace(case, profiles=profiles)
