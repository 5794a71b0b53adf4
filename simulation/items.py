"""The items that can be shown on a day: those posted on it and on the two days before.

Without new items (`Drift.new_items`) they are those of day 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulation.chance import generator
from simulation.drift import wandering_together
from simulation.people import degrees, producer_ids, producers
from simulation.picking import Groups, chosen
from simulation.world import World

LIFE = 3  # days on which an item is shown
FADING = 0.4  # a day later, an item is shown so much less often
POSTS = 1.0  # mean per producer and day
LIFT = 0.5  # spread of the quality of items: what is added to the logit of a click


@dataclass(frozen=True)
class Posts:
    """What was posted on a day. n items.

    ids: (n,) int64, ascending; places: (n,) of the producers, ascending; topics: (n,); quality:
    (n,) float32.
    """

    ids: np.ndarray
    places: np.ndarray
    topics: np.ndarray
    quality: np.ndarray


@dataclass(frozen=True)
class Catalog:
    """What can be shown on a day, in the order of the producers' places. n items, k topics.

    age_days: (n,) since the post; weights: (n,) how often an item is shown beside others of its
    topic. first, count: (m,) the first row of each place, and how many there are.
    """

    ids: np.ndarray
    places: np.ndarray
    topics: np.ndarray
    quality: np.ndarray
    age_days: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    count: np.ndarray
    by_topic: Groups  # the rows by topic and weight


def topic_popularity(world: World, day: int) -> np.ndarray:
    """The logarithm of how popular each topic is on a day: (k,), standard normal."""
    name = f"topics/{world.drift.epoch(day)}"
    return wandering_together(world.seed, name, world.topics, world.drift.topics, day)


@lru_cache(maxsize=8)
def posts(world: World, day: int) -> Posts:
    """The items posted on a day. The day may be before day 0, down to 1 - LIFE."""
    rng = generator(world.seed, "posts", day)
    counts = rng.poisson(POSTS, world.producers)
    counts[rng.integers(world.producers)] += 1  # so that no day is without any
    places = np.repeat(np.arange(world.producers), counts)
    known_for = np.cumsum(degrees(producers(world, day).subjects), axis=1)
    topics = chosen(known_for[places], rng.random(len(places), np.float32))
    quality = LIFT * rng.standard_normal(len(places), np.float32)
    most = 64 * world.producers  # more than are ever posted on a day
    return Posts((day + LIFE) * most + np.arange(len(places)), places, topics, quality)


@lru_cache(maxsize=4)
def catalog(world: World, day: int) -> Catalog:
    """The items of a day. Those of producers who have left are gone, too."""
    now = producers(world, day)
    newest = day if world.drift.new_items else 0
    recent = []
    for age in range(LIFE):
        posted = posts(world, newest - age)
        stayed = producer_ids(world, newest - age) == now.ids
        kept = stayed[posted.places]
        columns = [posted.ids, posted.places, posted.topics, posted.quality]
        recent.append([*(column[kept] for column in columns), np.full(kept.sum(), age)])
    ids, places, topics, quality, age_days = map(np.concatenate, zip(*recent, strict=True))
    weights = now.popularity[places] * FADING**age_days * np.exp(quality)
    order = np.argsort(places, kind="stable")
    count = np.bincount(places, minlength=world.producers)
    return Catalog(
        ids=ids[order],
        places=places[order],
        topics=topics[order],
        quality=quality[order],
        age_days=age_days[order],
        weights=weights[order],
        first=np.cumsum(count) - count,
        count=count,
        by_topic=Groups.of(topics[order], weights[order], world.topics),
    )
