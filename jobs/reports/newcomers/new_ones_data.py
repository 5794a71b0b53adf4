"""The data sets of `table5`: a simulated world, and the log of the settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.features import Features, Vocabulary
from embeddings.registry.vectors import encode_ids
from jobs.features.entity_features import consumer_features, producer_features
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.lake.store import Partition
from jobs.reports.newcomers.new_ones import Asked, NewOnes, new_ones, rows_among
from jobs.reports.tables.own_log import COLUMNS, of_popular, pairs_of, trusted_days
from jobs.reports.tables.problem import Pairs, as_ids, counted, joined
from jobs.reports.tables.world import clicked, crowd_of_ids
from jobs.settings import Settings
from simulation import signups
from simulation.drift import Drift
from simulation.engagements import KINDS, impressions
from simulation.items import posts
from simulation.people import consumers, producers
from simulation.truth import prospects
from simulation.world import World

WORLD = World(
    consumers=12_000, producers=1_500, impressions=6.0, drift=Drift(consumers=0.03, producers=0.02)
)
DAYS = 14


def world_new_ones(world: World, days: int) -> NewOnes:
    """Clicks of `days` days, and those of the next one; profiles, domains and topics of posts."""
    window = joined([clicked(impressions(world, day)) for day in range(days)])
    shown = impressions(world, days)
    hits = shown.labels[:, KINDS.index("click")]
    problem = new_ones("simulated", window, clicked(shown), shown.times_ms[hits])
    known = with_world_features(problem, world, days)
    return with_rates(known, world, days)


def with_world_features(problem: NewOnes, world: World, days: int) -> NewOnes:
    crowd = crowd_of_ids(problem.consumer_ids, world, days)
    values = {
        "region": tuple(map(str, range(signups.REGIONS))),
        "interest": tuple(map(str, range(world.topics))),
        "domain": tuple(map(str, range(signups.DOMAINS))),
    }
    # The columns of a category are in the order of its values here, which are numbers.
    n = len(crowd.ids)
    rows = np.arange(n)
    regions = counted(rows, signups.regions(world, crowd.ids), (n, signups.REGIONS))
    interests = counted(rows, signups.interests(world, crowd), (n, world.topics))
    visited = []
    for day in range(1, days + 1):
        found = signups.signups(world, day)
        own = rows_among(problem.consumer_ids, as_ids(found.crowd.ids))
        visited.append(np.column_stack([own[found.visits[:, 0]], found.visits[:, 1]]))
    pairs = np.concatenate(visited)
    visits = counted(pairs[:, 0], pairs[:, 1], (n, signups.DOMAINS))
    stacked = sp.hstack([regions, interests, visits], format="csr", dtype=np.float32)
    topics = Vocabulary({"topic": tuple(map(str, range(world.topics)))}, {})
    of_producers = [
        Features(topics, topic_shares(world, range(days), problem.producer_ids)),
        Features(topics, topic_shares(world, [days], problem.new_producer_ids)),
    ]
    return problem.with_features(Features(Vocabulary(values, {}), stacked), *of_producers)


def topic_shares(world: World, days, ids: np.ndarray) -> sp.csr_matrix:
    """Which share of what each producer posted on these days is about each topic: (m, topics)."""
    counts = sp.csr_matrix((len(ids), world.topics))
    for day in days:
        posted = posts(world, day)
        authors = as_ids(producers(world, day).ids[posted.places])
        counts += counted(rows_among(ids, authors), posted.topics, counts.shape)
    sums = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return (sp.diags(1 / sums) @ counts).tocsr().astype(np.float32)


def with_rates(problem: NewOnes, world: World, day: int) -> NewOnes:
    """The problem with the clicks to be expected of everyone who is asked about."""
    here, there = consumers(world, day), as_ids(producers(world, day).ids)
    at = rows_among(as_ids(here.ids), problem.consumer_ids)

    def known(asked: Asked, ids: np.ndarray) -> Asked:
        expected = prospects(world, here.only(at[asked.rows]))
        columns = rows_among(there, ids)
        rates = np.where(columns >= 0, expected[:, columns], 0)
        if not asked.repeats:
            rates[asked.history.nonzero()] = 0
        return replace(asked, rates=rates)

    return replace(
        problem,
        known=known(problem.known, problem.producer_ids),
        new=known(problem.new, problem.producer_ids),
        begun=known(problem.begun, problem.producer_ids),
        of_new=known(problem.of_new, problem.new_producer_ids),
    )


# The log of the settings


def log_new_ones(settings: Settings) -> NewOnes | str:
    """`matrix.window_days` days and the last trusted day after them; a message without two days."""
    name = settings.source.kind
    days = trusted_days(settings)
    if len(days) < 2:
        return (
            f"{name} left out: the log has {len(days)} trusted days. Methods learn from one and "
            "are asked about the next. Use a longer log."
        )
    *before, tested = days[-settings.matrix.window_days - 1 :]
    window = joined([pairs_of(day, settings.matrix.weights) for day in before])
    kept = of_popular(window.producers, settings.matrix.producers)
    later, times = timed_pairs(tested, settings.matrix.weights)
    problem = new_ones(name, window, later, times, kept)
    any_new = len(problem.new_producer_ids) > 0
    return problem.with_features(
        consumer_features(tested, problem.consumer_ids),
        # Both of one day: features of two days have other columns.
        producer_features(tested, problem.producer_ids),
        producer_features(tested, problem.new_producer_ids) if any_new else None,
    )


def timed_pairs(day: Partition, weights: dict[str, float]) -> tuple[Pairs, np.ndarray]:
    """The day's engagements with their strengths, and when each was: 0 where nobody knows."""
    names = [*COLUMNS, "time_ms"]
    parts = [pq.read_table(part.path, columns=names) for part in day.parts(ENGAGEMENT_TABLE)]
    table = pa.concat_tables(parts).to_pandas().dropna(subset=COLUMNS)
    strengths = (table["kind"].map(weights).fillna(1.0) * table["value"]).to_numpy(np.float64)
    rows = table[strengths > 0]
    pairs = Pairs(
        encode_ids(rows["consumer_id"].to_numpy()),
        encode_ids(rows["producer_id"].to_numpy()),
        strengths[strengths > 0],
    )
    return pairs, rows["time_ms"].fillna(0).to_numpy(np.int64)
