"""Who follows whom: computed edge by edge, stored nowhere.

Most consumers follow a few producers and some follow thousands; most producers have few followers
and some a large share of all. A consumer follows producers of topics that it liked at sign-up.
A follower of a producer who leaves follows the one who takes the place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simulation.chance import normals, uniforms
from simulation.people import Consumers, degrees, popularity
from simulation.picking import Groups, chosen
from simulation.world import World

TAIL = 1.3  # P(degree > x) = (x / 2)^-TAIL for x > 2
MOST = 5000
FAME = 1.3  # followers grow faster than popularity: with this power of it


def degree(world: World, ids: np.ndarray) -> np.ndarray:
    """How many edges each consumer has: (n,) int64, at least 2."""
    drawn = np.maximum(uniforms(world.seed, "degree", ids), 1e-9)
    return np.minimum(2 * drawn ** (-1 / TAIL), MOST).astype(np.int64)


@lru_cache(maxsize=8)
def table(world: World) -> Groups:
    """What edges are drawn from: the places of producers by topic, each topic by popularity.

    Of the first occupants of all places, whom no drift has changed yet.
    """
    ids = np.arange(world.producers)
    weights = popularity(world, ids) ** FAME
    return Groups.of(main_topics(world, ids), weights, world.topics)


def main_topics(world: World, ids: np.ndarray) -> np.ndarray:
    """The first topic of each producer before any drift: (m,)."""
    return normals(world.seed, "subject/0", ids, world.topics).argmax(axis=1)


def circles(world: World, crowd: Consumers) -> np.ndarray:
    """What the topics of a consumer's edges are drawn from: (n, k) cumulated weights.

    A topic without producers has none.
    """
    has_producers = table(world).weights > 0
    return np.cumsum(degrees(crowd.first_tastes()) * has_producers, axis=1)


def followed(
    world: World, ids: np.ndarray, cumulated: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """The place of the producer at the end of an edge. Returns (edges,) int64.

    ids: (edges,) consumers; cumulated: (edges, k) their circles; numbers: (edges,) from 0 to the
    consumer's degree. A consumer may have several edges to one producer, which then count more.
    """
    topics = chosen(cumulated, uniforms(world.seed, "edge/topic", ids, numbers))
    return table(world).pick(topics, uniforms(world.seed, "edge", ids, numbers))


def follows(world: World, crowd: Consumers) -> tuple[np.ndarray, np.ndarray]:
    """All edges of some consumers: (edges,) rows of the crowd, and places of producers."""
    counts = degree(world, crowd.ids)
    rows = np.repeat(np.arange(len(crowd.ids)), counts)
    numbers = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, followed(world, crowd.ids[rows], circles(world, crowd)[rows], numbers)
