"""Consumers and producers: who is there on a day, how active, and with which tastes or subjects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulation.chance import normals, uniforms
from simulation.drift import Turnover, wandering
from simulation.world import World

SPREAD = 1.5  # of the logarithm of a consumer's activity
TAIL = 1.5  # exponent of the producers' popularity: P(popularity > x) = x^-TAIL
QUALITY = 0.6  # spread of the quality of producers
GENEROSITY = 0.7  # spread of how easily consumers click
SHARPNESS = 2.5  # how much a vector prefers its first topic: degrees are softmax(SHARPNESS x)


@dataclass(frozen=True)
class Consumers:
    """Those who are there on a day, of some places. n of them; k topics.

    ids: (n,) int64, never used again after they have left; born: (n,) day of the sign-up, 0 for
    those who were there before the log.
    """

    world: World
    day: int
    ids: np.ndarray
    born: np.ndarray

    def only(self, rows: np.ndarray) -> Consumers:
        return Consumers(self.world, self.day, self.ids[rows], self.born[rows])

    def activity(self) -> np.ndarray:
        """How active each is, with mean 1: (n,) float64, log-normal."""
        drawn = normals(self.world.seed, "activity", self.ids, 2)[:, 0].astype(np.float64)
        return np.exp(SPREAD * drawn - SPREAD**2 / 2)

    def generosity(self) -> np.ndarray:
        """What each adds to the logit of its clicks: (n,) float32."""
        return np.float32(GENEROSITY) * normals(self.world.seed, "generosity", self.ids, 2)[:, 0]

    def tastes(self) -> np.ndarray:
        """What each likes on the day: (n, k) float32, standard normal."""
        drift = self.world.drift
        name = f"taste/{drift.epoch(self.day)}"
        ages = self.day - self.born
        return wandering(self.world.seed, name, self.ids, self.world.topics, drift.tastes, ages)

    def first_tastes(self) -> np.ndarray:
        """What each would have liked at sign-up, had no shock been before: (n, k) float32."""
        return normals(self.world.seed, "taste/0", self.ids, self.world.topics)


@dataclass(frozen=True)
class Producers:
    """All of a day, one for each place. m of them; k topics.

    ids: (m,) int64; popularity: (m,) float64, heavy-tailed; subjects: (m, k) float32; quality: (m,)
    float32, what is added to the logit of a click.
    """

    ids: np.ndarray
    popularity: np.ndarray
    subjects: np.ndarray
    quality: np.ndarray


def consumers(world: World, day: int, places: np.ndarray | None = None) -> Consumers:
    """The consumers of a day. places: of the places from 0 to world.consumers; default: all."""
    if places is None:
        places = np.arange(world.consumers)
    turnover = Turnover.of(world.seed, "consumers", places, world.drift.consumers)
    ids = places + world.consumers * turnover.generation(day)
    return Consumers(world, day, ids, turnover.born(day))


@lru_cache(maxsize=8)
def producers(world: World, day: int) -> Producers:
    """The producers of a day."""
    ids = producer_ids(world, day)
    name = f"subject/{world.drift.epoch(day)}"
    subjects = wandering(world.seed, name, ids, world.topics, world.drift.subjects, day)
    quality = np.float32(QUALITY) * normals(world.seed, "quality", ids, 2)[:, 0]
    return Producers(ids, popularity(world, ids), subjects, quality)


def producer_ids(world: World, day: int) -> np.ndarray:
    """(m,) int64; below zero for those who have left before day 0."""
    places = np.arange(world.producers)
    turnover = Turnover.of(world.seed, "producers", places, world.drift.producers)
    return places + world.producers * turnover.generation(day)


def popularity(world: World, ids: np.ndarray) -> np.ndarray:
    """A Pareto distribution, cut where no more than one of a world's producers is expected."""
    drawn = uniforms(world.seed, "popularity", ids)
    return np.maximum(drawn, 0.5 / world.producers) ** (-1 / TAIL)


def degrees(vectors: np.ndarray, popularity: np.ndarray | float = 0.0) -> np.ndarray:
    """How much a consumer is interested in each topic, or a producer is known for it.

    softmax(SHARPNESS x + popularity of the topics). vectors: (n, k). Returns (n, k), rows sum to 1.
    """
    scores = np.float32(SHARPNESS) * vectors + np.asarray(popularity, np.float32)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
