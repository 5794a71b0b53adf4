"""What no model can surpass: the scores of the probabilities that the world itself has drawn from.

rankers     `expected_auc` and `expected_log_loss` of a day's probabilities
retrieval   `rates`: how many clicks a consumer is expected to give each producer;
            `Retrieval.ndcg`: of a ranking by any scores, such as the rates of an earlier day
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulation.engagements import (
    FOLLOWED,
    KINDS,
    blocks,
    impressions_of,
    probabilities_of,
    topic_shares,
)
from simulation.graph import degree, follows
from simulation.items import LIFE, LIFT, POSTS, Catalog, catalog
from simulation.people import Consumers, consumers, degrees, producers
from simulation.world import World

Compute = Callable[[World, Consumers, int], np.ndarray]
CHUNK = 128  # consumers whose (consumers, items) probabilities are in memory at once


def expected_log_loss(probabilities: np.ndarray) -> float:
    """The mean log loss of these probabilities of labels that are drawn from them: (n,)."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    return float(-np.mean(p * np.log(p) + (1 - p) * np.log1p(-p)))


def expected_auc(probabilities: np.ndarray) -> float:
    """The AUC of these probabilities, (n,), for labels drawn from them; NaN with fewer than two.

    Σ p_i (1 - p_j) [p_i > p_j] / Σ p_i (1 - p_j), over i ≠ j; a tie counts half. It is the ratio of
    two expectations, which for many rows is the expectation of the ratio.
    """
    p = np.sort(probabilities.astype(np.float64))
    values, first = np.unique(p, return_index=True)
    negative = np.add.reduceat(1 - p, first)
    positive = np.add.reduceat(p, first)
    below = np.cumsum(negative) - negative
    itself = np.sum(p * (1 - p))
    won = positive @ below + (positive @ negative - itself) / 2
    pairs = p.sum() * (1 - p).sum() - itself
    return float(won / pairs) if len(values) and pairs > 0 else float("nan")


def rates(world: World, crowd: Consumers, kind: str = "click") -> np.ndarray:
    """How many engagements of a kind each consumer is expected to have with each producer.

    On the crowd's day, given the items that there are. Returns (n, m) float32, columns in the order
    of `producers(world, day)`: impressions · Σ_items share of the item · probability.
    """
    return in_chunks(rates_given_items, world, crowd, kind)


def prospects(world: World, crowd: Consumers, kind: str = "click") -> np.ndarray:
    """The same before it is known who will post what: what only tastes, subjects and edges say.

    In a still world it is the same on every day. Returns (n, m) float32.
    """
    return in_chunks(rates_given_subjects, world, crowd, kind)


def in_chunks(compute: Compute, world: World, crowd: Consumers, kind: str) -> np.ndarray:
    parts = []
    for start in range(0, len(crowd.ids), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(crowd.ids)))
        part = crowd.only(rows)
        impressions = world.impressions * part.activity()
        expected = compute(world, part, KINDS.index(kind))
        parts.append((impressions[:, None] * expected).astype(np.float32))
    return np.concatenate(parts)


def rates_given_items(world: World, crowd: Consumers, kind: int) -> np.ndarray:
    """Per impression: (n, m)."""
    items = catalog(world, crowd.day)
    weights = items.by_topic.weights
    tastes = crowd.tastes()
    affinity = affinities(world, crowd.day, tastes)[:, items.places]
    liking = tastes[:, items.topics]
    quality = items.quality + producers(world, crowd.day).quality[items.places]
    appeal = crowd.generosity()[:, None] + quality
    followed = followed_shares(world, crowd, items.count > 0)
    left = 1 - followed.sum(axis=1, keepdims=True)
    of_topic = topic_shares(world, crowd.day, tastes, weights > 0)[:, items.topics]
    shares = {
        False: left * of_topic * (items.weights / weights[items.topics]),
        True: (followed / np.maximum(items.count, 1))[:, items.places],
    }
    expected = np.zeros(liking.shape)
    for follows_it, share in shares.items():
        p = probabilities_of(affinity, liking, appeal, np.array(follows_it))
        expected += share * p[..., kind]
    return by_place(expected, items)


def rates_given_subjects(world: World, crowd: Consumers, kind: int) -> np.ndarray:
    """Per impression, with the mean quality of what is shown: (n, m)."""
    everyone = producers(world, crowd.day)
    tastes = crowd.tastes()
    affinity = affinities(world, crowd.day, tastes)
    appeal = crowd.generosity()[:, None] + everyone.quality
    known_for = degrees(everyone.subjects)  # (m, k)
    weights = everyone.popularity[:, None] * known_for
    within = weights / weights.sum(axis=0)
    of_topic = topic_shares(world, crowd.day, tastes, np.ones(world.topics, bool))
    posts_something = np.full(world.producers, 1 - np.exp(-POSTS * LIFE))
    followed = followed_shares(world, crowd, posts_something)
    left = 1 - followed.sum(axis=1, keepdims=True)
    expected = np.zeros(affinity.shape)
    for topic in range(world.topics):
        liking = tastes[:, topic, None]
        # What is drawn by weight has a quality that is higher by its variance.
        shares = (
            (False, LIFT**2, left * of_topic[:, topic, None] * within[:, topic]),
            (True, 0.0, followed * known_for[:, topic]),
        )
        for follows_it, quality, share in shares:
            p = probabilities_of(
                affinity, liking, appeal + np.float32(quality), np.array(follows_it)
            )
            expected += share * p[..., kind]
    return expected


def affinities(world: World, day: int, tastes: np.ndarray) -> np.ndarray:
    """(n, m): of consumers with these tastes and the producers of a day."""
    return tastes @ producers(world, day).subjects.T / np.float32(np.sqrt(world.topics))


def followed_shares(world: World, crowd: Consumers, posted: np.ndarray) -> np.ndarray:
    """The share of a consumer's impressions that come from each producer it follows: (n, m).

    posted: (m,) with which probability each has posted something.
    """
    n, m = len(crowd.ids), world.producers
    rows, places = follows(world, crowd)
    edges = np.bincount(rows * m + places, minlength=n * m).reshape(n, m)
    return FOLLOWED * posted * edges / degree(world, crowd.ids)[:, None]


def by_place(values: np.ndarray, items: Catalog) -> np.ndarray:
    """(n, items) -> (n, m): sums over each producer's items."""
    sums = np.zeros((len(values), len(items.count)))
    posted = np.flatnonzero(items.count)
    sums[:, posted] = np.add.reduceat(values, items.first[posted], axis=1)
    return sums


@dataclass(frozen=True)
class Retrieval:
    """Consumers of a day, and the producers that each engaged with.

    crowd: n consumers with at least one engagement; engaged: (n, m) bool, columns in the order of
    `producers(world, day)`.
    """

    world: World
    crowd: Consumers
    engaged: np.ndarray

    @classmethod
    def of(cls, world: World, day: int, most: int = 1000, kind: str = "click") -> Retrieval:
        """The first consumers of a day with an engagement of a kind, `most` of them at most."""
        found: list[np.ndarray] = []  # (pairs, 2) places of consumers and producers
        for block in range(blocks(world)):
            shown = impressions_of(world, day, block)
            hits = shown.labels[:, KINDS.index(kind)]
            places = shown.consumers[hits] % world.consumers
            found.append(np.stack([places, shown.producers[hits] % world.producers], axis=1))
            if sum(len(np.unique(pairs[:, 0])) for pairs in found) >= most:
                break
        pairs = np.concatenate(found)
        places = np.unique(pairs[:, 0])[:most]
        pairs = pairs[np.isin(pairs[:, 0], places)]
        engaged = np.zeros((len(places), world.producers), bool)
        engaged[np.searchsorted(places, pairs[:, 0]), pairs[:, 1]] = True
        return cls(world, consumers(world, day, places), engaged)

    def scores(self, age: int = 0) -> np.ndarray:
        """The prospects, (n, m), as they were `age` days before; 0 for who was not there then."""
        day = self.crowd.day
        then = prospects(self.world, replace(self.crowd, day=day - age))
        stayed = producers(self.world, day - age).ids == producers(self.world, day).ids
        return then * stayed

    def ndcg(self, scores: np.ndarray, top: int = 20) -> np.ndarray:
        """NDCG@top of every consumer, (n,), of the producers in descending order of their scores.

        Binary: an engaged producer counts 1. Source: Järvelin and Kekäläinen 2002.
        """
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        discounts = 1 / np.log2(np.arange(2, order.shape[1] + 2))
        gained = np.take_along_axis(self.engaged, order, axis=1) @ discounts
        most = np.minimum(self.engaged.sum(axis=1), order.shape[1])
        return gained / np.cumsum(discounts)[most - 1]
