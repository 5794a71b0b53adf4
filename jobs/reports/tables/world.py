"""A simulated world as a problem, of which the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from jobs.reports.tables.problem import (
    Pairs,
    Problem,
    Truth,
    as_ids,
    counted,
    joined,
    places,
    problem_of,
    with_labels,
)
from simulation import signups
from simulation.engagements import KINDS, Impressions, impressions
from simulation.graph import degree, follows
from simulation.items import catalog, posts
from simulation.labels import labels
from simulation.people import Consumers, consumers, producers
from simulation.truth import prospects
from simulation.world import World

WORLD = World(consumers=3000, producers=800, topics=16, impressions=6.0)
DAYS = 14  # of the window; the day after is asked for
TOP = 20


def simulated_problem(world: World, days: int) -> Problem:
    """Clicks of `days` days, and the clicks of the next one. Methods are tuned on the last day."""
    by_day = [clicked(impressions(world, day)) for day in range(days)]
    window = joined(by_day)
    last = np.arange(len(window)) >= len(window) - len(by_day[-1])
    shown = impressions(world, days)
    problem = problem_of("simulated", window, last, clicked(shown), repeats=True)
    problem = with_topics(problem, world, days, shown)
    crowd = crowd_of(problem, world, days)
    rows, followed = follows(world, crowd)
    columns = places(problem.case.producer_ids, as_ids(producers(world, days).ids[followed]))
    graph = counted(rows, columns, problem.case.window.shape)
    graph.data[:] = 1.0  # several edges to one producer are one
    return replace(
        with_labels(problem, profiles=profiles_of(world, crowd)),
        follows=graph,
        to_producers=True,
        labels=labelled(problem, world, days - 1),
        truth=truth_of(problem, world, days),
    )


def clicked(shown: Impressions) -> Pairs:
    hits = shown.labels[:, KINDS.index("click")]
    consumer_ids, producer_ids = as_ids(shown.consumers[hits]), as_ids(shown.producers[hits])
    return Pairs(consumer_ids, producer_ids, np.ones(int(hits.sum())))


def crowd_of(problem: Problem, world: World, day: int) -> Consumers:
    """Everyone of the problem, also those who have left; `born` counts for those who are there."""
    return crowd_of_ids(problem.case.consumer_ids, world, day)


def crowd_of_ids(consumer_ids: np.ndarray, world: World, day: int) -> Consumers:
    """The same of these ids, (n,) bytes."""
    ids = consumer_ids.astype(np.int64)
    here = consumers(world, day)
    born = np.zeros(len(ids), np.int64)
    same = here.ids[ids % world.consumers] == ids
    born[same] = here.born[ids[same] % world.consumers]
    return Consumers(world, day, ids, born)


# Labels


def with_topics(problem: Problem, world: World, day: int, shown: Impressions) -> Problem:
    """Topics of what producers posted in the window, and of what consumers clicked after it."""
    case = problem.case
    by_producer = sp.csr_matrix((len(case.producer_ids), world.topics))
    for number in range(day):
        posted = posts(world, number)
        rows = places(case.producer_ids, as_ids(producers(world, number).ids[posted.places]))
        by_producer += counted(rows, posted.topics, by_producer.shape)
    items = catalog(world, day)
    order = np.argsort(items.ids)
    hits = shown.labels[:, KINDS.index("click")]
    at = order[np.searchsorted(items.ids[order], shown.items[hits])]
    rows = places(case.consumer_ids, as_ids(shown.consumers[hits]))
    by_consumer = counted(rows, items.topics[at], (len(case.consumer_ids), world.topics))
    return with_labels(
        problem,
        topics=tuple(f"t{topic}" for topic in range(world.topics)),
        producer_topics=by_producer.tocsr(),
        consumer_topics=by_consumer,
    )


def profiles_of(world: World, crowd: Consumers) -> dict[str, np.ndarray]:
    """As the source has them, without the days since sign-up, which most do not know."""
    return {
        "cat_region": np.asarray(signups.regions(world, crowd.ids)).astype(np.str_),
        "cat_interest": np.asarray(signups.interests(world, crowd)).astype(np.str_),
        "num_follows": degree(world, crowd.ids).astype(np.float64),
    }


def labelled(problem: Problem, world: World, day: int) -> sp.csr_matrix:
    """The topics that people gave the top producers, one each: (m, topics)."""
    given = labels(world, day)
    rows = places(problem.case.producer_ids, as_ids(given.ids))
    return counted(rows, given.topics, (len(problem.case.producer_ids), world.topics))


# The truth


def truth_of(problem: Problem, world: World, day: int) -> Truth:
    case = problem.case
    crowd, everyone = consumers(world, day), producers(world, day)
    at = places(case.consumer_ids, as_ids(crowd.ids))
    here = np.flatnonzero(at >= 0)
    columns = places(case.producer_ids, as_ids(everyone.ids))
    there = np.flatnonzero(columns >= 0)
    assert case.engaged is not None, "problem_of sets it"
    active = here[np.diff(case.engaged.indptr)[at[here]] > 0]
    expected = prospects(world, crowd.only(active))
    rates = np.zeros((len(active), len(case.producer_ids)), np.float32)
    rates[:, columns[there]] = expected[:, there]
    return Truth(
        here=at[here],
        tastes=crowd.tastes()[here],
        there=columns[there],
        subjects=everyone.subjects[there],
        asked=at[active],
        rates=rates,
        best=-np.sort(-expected, axis=1)[:, :TOP],
    )
