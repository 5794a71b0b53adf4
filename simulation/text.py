"""The texts of a day's items: bags of words, hashtags, mentions and links.

The vocabulary turns over: a word, hashtag or link is used for some time and another one takes its
place. Some words are ambiguous: they keep their spelling and move to another topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulation.chance import bits, generator
from simulation.drift import Turnover
from simulation.items import posts
from simulation.people import producer_ids
from simulation.picking import Groups
from simulation.world import World

# Kind -> its share of the tokens, the places of a topic, and how fast they turn over beside
# `Drift.words`.
KINDS = {
    "word": (0.70, 300, 0.5),
    "ambiguous": (0.10, 0, 0.0),
    "hashtag": (0.09, 60, 1.0),
    "mention": (0.07, 40, 1.0),
    "link": (0.04, 40, 2.0),
}
NAMES = tuple(KINDS)
PREFIXES = ("w", "a", "#h", "@p", "https://l.example/")
AMBIGUOUS = 400  # words, of all topics together
SHORTEST, LONGER = 3, 7.0  # tokens of a text: the least, and the mean of the others
FLATNESS = 3.0  # the word of rank r has the weight 1 / (r + FLATNESS)


@dataclass(frozen=True)
class Texts:
    """The texts of n items, of t tokens in all.

    items: (n,) ids; ends: (n + 1,) text i has the tokens from ends[i] to ends[i + 1]; kinds: (t,)
    of NAMES; numbers: (t,) of the token among those of its kind.
    """

    items: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray
    numbers: np.ndarray

    def spelt(self) -> list[str]:
        """The tokens as texts, such as w17, a5, #h3, @p12 and https://l.example/8."""
        pairs = zip(self.kinds.tolist(), self.numbers.tolist(), strict=True)
        return [f"{PREFIXES[kind]}{number}" for kind, number in pairs]

    def written(self) -> list[str]:
        """Each text in one line, its tokens separated by blanks."""
        tokens = self.spelt()
        bounds = zip(self.ends[:-1].tolist(), self.ends[1:].tolist(), strict=True)
        return [" ".join(tokens[start:end]) for start, end in bounds]


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a day.

    numbers: kind -> (topics, places), the place's occupant, most frequent first; cumulated: kind ->
    (places,) weights; by_home: the ambiguous words by topic.
    """

    numbers: dict[str, np.ndarray]
    cumulated: dict[str, np.ndarray]
    by_home: Groups


@lru_cache(maxsize=4)
def vocabulary(world: World, day: int) -> Vocabulary:
    numbers = {}
    cumulated = {}
    for kind, (_, places, pace) in KINDS.items():
        if kind != "ambiguous":
            numbers[kind] = occupants(world, day, kind, places, pace)
            weights = 1 / (np.arange(places) + FLATNESS)
            cumulated[kind] = np.cumsum(weights) / weights.sum()
    by_home = Groups.of(meanings(world, day), np.ones(AMBIGUOUS), world.topics)
    return Vocabulary(numbers, cumulated, by_home)


def occupants(world: World, day: int, kind: str, places: int, pace: float) -> np.ndarray:
    """The number of the token at every place of every topic: (topics, places) int64.

    A mention is that of a producer.
    """
    all_places = np.arange(world.topics * places)
    share = min(pace * world.drift.words, 0.5)
    generation = Turnover.of(world.seed, f"token/{kind}", all_places, share).generation(day)
    numbers = all_places + len(all_places) * generation
    if kind == "mention":
        drawn = bits(world.seed, "mentioned", numbers) % np.uint64(world.producers)
        numbers = producer_ids(world, max(day, 0))[drawn.astype(np.int64)]
    return numbers.reshape(world.topics, places)


def meanings(world: World, day: int) -> np.ndarray:
    """The topic that each ambiguous word belongs to on a day: (AMBIGUOUS,)."""
    words = np.arange(AMBIGUOUS)
    turnover = Turnover.of(world.seed, "meaning", words, world.drift.meanings)
    drawn = bits(world.seed, "meaning", words, turnover.generation(day))
    return (drawn % np.uint64(world.topics)).astype(np.int64)


def texts(world: World, day: int) -> Texts:
    """What was posted on a day, in the order of the items' ids."""
    posted = posts(world, day)
    rng = generator(world.seed, "texts", day)
    lengths = SHORTEST + rng.poisson(LONGER, len(posted.ids))
    topics = np.repeat(posted.topics, lengths)
    shares = np.cumsum([share for share, _, _ in KINDS.values()])
    kinds = np.searchsorted(shares[:-1], rng.random(len(topics)), side="right").astype(np.int8)
    drawn = rng.random(len(topics))
    known = vocabulary(world, day)
    # A topic without ambiguous words has plain ones instead.
    empty = (kinds == NAMES.index("ambiguous")) & (known.by_home.weights[topics] == 0)
    kinds[empty] = NAMES.index("word")
    numbers = np.empty(len(topics), np.int64)
    for code, kind in enumerate(NAMES):
        here = np.flatnonzero(kinds == code)
        if kind == "ambiguous":
            numbers[here] = known.by_home.pick(topics[here], drawn[here])
        else:
            ranks = np.searchsorted(known.cumulated[kind][:-1], drawn[here], side="right")
            numbers[here] = known.numbers[kind][topics[here], ranks]
    return Texts(posted.ids, np.append(0, np.cumsum(lengths)), kinds, numbers)
