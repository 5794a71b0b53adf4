"""A world of consumers with tastes and producers with topics, and its engagements day by day.

A consumer with tastes u engages with the producer with topics v and popularity p with probability
proportional to p exp(s u·v / √k). Every day some consumers and producers leave for good, and others
with ids of their own take their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SHARPNESS = 1.5  # s: how much tastes decide; 0 would be popularity alone
BLOCK = 500  # consumers whose probabilities are in memory at once


@dataclass(frozen=True)
class SmallWorld:
    """What a world is like.

    engagements: expected per consumer and day; new_consumers, new_producers: shares replaced per
    day; drift: of tastes per day, between 0 (none) and 1 (drawn anew); breaks: numbers of the days
    on which the tastes and topics of all are drawn anew, while popularity and activity stay.
    """

    consumers: int = 1500
    producers: int = 1200
    topics: int = 12
    engagements: float = 4.0
    new_consumers: float = 0.0
    new_producers: float = 0.0
    drift: float = 0.0
    breaks: tuple[int, ...] = ()


@dataclass(frozen=True)
class SimulatedDay:
    """The engagements of a day, and the truth behind them.

    consumers, producers: (events,) ids; ids: (n,), of the consumers who are there; tastes: (n, k).
    """

    consumers: np.ndarray
    producers: np.ndarray
    ids: np.ndarray
    tastes: np.ndarray


@dataclass
class Population:
    """One side: ids, vectors, and how often each takes part. Replaced in place from day to day."""

    ids: np.ndarray
    vectors: np.ndarray
    sizes: np.ndarray

    @classmethod
    def born(cls, n: int, topics: int, spread: float, rng: np.random.Generator) -> Population:
        """spread: of the logarithm of the sizes."""
        vectors = rng.normal(size=(n, topics))
        return cls(np.arange(n), vectors, rng.lognormal(0, spread, n))

    def replace(self, share: float, spread: float, rng: np.random.Generator) -> None:
        """Others take the places of a random share."""
        rows = np.flatnonzero(rng.random(len(self.ids)) < share)
        self.ids[rows] = self.ids.max() + 1 + np.arange(len(rows))
        self.vectors[rows] = rng.normal(size=(len(rows), self.vectors.shape[1]))
        self.sizes[rows] = rng.lognormal(0, spread, len(rows))


def simulate(world: SmallWorld, days: int, seed: int) -> Iterator[SimulatedDay]:
    """The days of a world. The same arguments give the same days."""
    rng = np.random.default_rng(seed)
    consumers = Population.born(world.consumers, world.topics, 0.7, rng)
    producers = Population.born(world.producers, world.topics, 1.0, rng)
    for number in range(days):
        if number:
            consumers.replace(world.new_consumers, 0.7, rng)
            producers.replace(world.new_producers, 1.0, rng)
            moved = rng.normal(size=consumers.vectors.shape)
            kept = np.sqrt(1 - world.drift**2)
            consumers.vectors = kept * consumers.vectors + world.drift * moved
        if number in world.breaks:
            consumers.vectors = rng.normal(size=consumers.vectors.shape)
            producers.vectors = rng.normal(size=producers.vectors.shape)
        rows, columns = engagements(consumers, producers, world.engagements, rng)
        yield SimulatedDay(
            consumers.ids[rows],
            producers.ids[columns],
            consumers.ids.copy(),
            consumers.vectors.copy(),
        )


def engagements(
    consumers: Population, producers: Population, rate: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every engagement of a day; a consumer may engage repeatedly with one."""
    rows = []
    columns = []
    scale = SHARPNESS / np.sqrt(producers.vectors.shape[1])
    for start in range(0, len(consumers.ids), BLOCK):
        block = slice(start, start + BLOCK)
        affinities = np.exp(scale * consumers.vectors[block] @ producers.vectors.T)
        cumulated = np.cumsum(affinities * producers.sizes, axis=1)
        counts = rng.poisson(rate * consumers.sizes[block])
        for row in np.flatnonzero(counts):
            drawn = rng.random(counts[row]) * cumulated[row, -1]
            columns.append(np.searchsorted(cumulated[row], drawn, side="right"))
            rows.append(np.full(counts[row], start + row))
    return np.concatenate(rows), np.concatenate(columns)
