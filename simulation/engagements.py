"""What was shown on a day, and what the consumers did.

An impression comes from someone whom the consumer follows, or from a topic: one that it likes, or
one that is popular. Its outcomes have these probabilities, with a the affinity u·v/√k of the
consumer's taste and the producer's subject, t the consumer's taste for the item's topic, g how
generous the consumer is with clicks, and q the quality of the item and of its producer:

    click               σ(-2 + g + a + 0.7 t + q + 0.4 if followed)
    each other outcome  of a click: σ(bias + slope · a), see OUTCOMES
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulation.chance import generator
from simulation.graph import circles, degree, followed
from simulation.items import Catalog, catalog, topic_popularity
from simulation.people import Consumers, consumers, degrees, producers
from simulation.picking import chosen
from simulation.world import World

BLOCK = 16_384  # places of consumers that are computed at once; a part of what the bytes are
FOLLOWED = 0.35  # share of the impressions that come from someone whom the consumer follows
POPULAR = 0.2  # share of the others whose topic is drawn by popularity alone
SURFACES = ("following", "for_you")  # where an item was shown

CLICK_BIAS = -2.0
CLICK_TOPIC = 0.7
CLICK_FOLLOWED = 0.4
OUTCOMES = {  # of a click: (bias, slope)
    "like": (-1.5, 0.8),
    "reply": (-3.0, 0.5),
    "follow": (-3.5, 1.0),
    "long_view": (0.0, 0.7),
}
KINDS = ("click", *OUTCOMES)
LONG_VIEW_MS = 10_000
DAY_MS = 86_400_000
# Share of the day's events before each hour of three: a quiet night, a busy evening.
CLOCK_SHARES = np.array([0, 0.06, 0.08, 0.14, 0.28, 0.44, 0.60, 0.82, 1.0])
CLOCK_MS = np.linspace(0, DAY_MS, len(CLOCK_SHARES))


@dataclass(frozen=True)
class Impressions:
    """n impressions of a day, by consumers.

    consumers, producers, items: (n,) ids; surfaces: (n,) 0 following, 1 for you; times_ms: (n,)
    since midnight; dwell_ms: (n,); labels: (n, kinds) bool, in the order of KINDS. The truth:
    probabilities: (n, kinds) float32, with which each label was drawn.
    """

    consumers: np.ndarray
    producers: np.ndarray
    items: np.ndarray
    surfaces: np.ndarray
    times_ms: np.ndarray
    dwell_ms: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.consumers)


def impressions(world: World, day: int) -> Impressions:
    """All impressions of a day."""
    parts = list(stream(world, day))
    columns = {}
    for name in Impressions.__dataclass_fields__:
        columns[name] = np.concatenate([getattr(part, name) for part in parts])
    return Impressions(**columns)


def stream(world: World, day: int) -> Iterator[Impressions]:
    """The same, block by block: memory for one block and the day's items."""
    for block in range(blocks(world)):
        yield impressions_of(world, day, block)


def blocks(world: World) -> int:
    return -(-world.consumers // BLOCK)


def places_of(world: World, block: int) -> np.ndarray:
    """The places of the consumers of a block."""
    return np.arange(block * BLOCK, min((block + 1) * BLOCK, world.consumers))


def counts(world: World, day: int, block: int) -> tuple[Consumers, np.ndarray]:
    """The consumers of a block, and how many impressions each has on the day: (n,)."""
    crowd = consumers(world, day, places_of(world, block))
    rng = generator(world.seed, "counts", day, block)
    return crowd, rng.poisson(world.impressions * crowd.activity())


def rows_of(world: World, day: int) -> int:
    """How many impressions a day has, without computing them."""
    return sum(int(counts(world, day, block)[1].sum()) for block in range(blocks(world)))


def impressions_of(world: World, day: int, block: int) -> Impressions:
    """The impressions of one block of consumers."""
    everyone, numbers = counts(world, day, block)
    present = np.flatnonzero(numbers)
    crowd = everyone.only(present)
    rows = np.repeat(np.arange(len(present)), numbers[present])  # (n,) of the crowd
    rng = generator(world.seed, "impressions", day, block)
    items = catalog(world, day)
    tastes = crowd.tastes()
    shown, follows = exposures(world, crowd, tastes, rows, items, rng)
    probabilities = outcomes(world, crowd, tastes, rows, items, shown, follows)
    labels = drawn(probabilities, rng)
    return Impressions(
        consumers=crowd.ids[rows],
        producers=producers(world, day).ids[items.places[shown]],
        items=items.ids[shown],
        surfaces=np.where(follows, 0, 1).astype(np.int8),
        times_ms=times(rng, len(rows)),
        dwell_ms=dwells(labels, rng),
        labels=labels,
        probabilities=probabilities,
    )


def topic_shares(world: World, day: int, tastes: np.ndarray, there: np.ndarray) -> np.ndarray:
    """What the topics of impressions are drawn from: (consumers, k), rows sum to 1.

    there: (k,) bool, the topics that have an item.
    """
    popular = topic_popularity(world, day)
    liked = degrees(tastes, popular) * there
    liked /= np.maximum(liked.sum(axis=1, keepdims=True), 1e-20)
    overall = np.exp(popular) * there
    return ((1 - POPULAR) * liked + POPULAR * overall / overall.sum()).astype(np.float32)


def exposures(
    world: World,
    crowd: Consumers,
    tastes: np.ndarray,
    rows: np.ndarray,
    items: Catalog,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The row in the catalog of each impression's item, and whether its producer is followed.

    rows: (n,) of the crowd. Returns (n,) int64 and (n,) bool.
    """
    there = items.by_topic.weights > 0
    cumulated = np.cumsum(topic_shares(world, crowd.day, tastes, there), axis=1)
    topics = chosen(cumulated[rows], rng.random(len(rows), np.float32))
    shown = items.by_topic.pick(topics, rng.random(len(rows)))
    wanted = np.flatnonzero(rng.random(len(rows), np.float32) < FOLLOWED)
    owners = rows[wanted]
    edges = (rng.random(len(wanted)) * degree(world, crowd.ids)[owners]).astype(np.int64)
    places = followed(world, crowd.ids[owners], circles(world, crowd)[owners], edges)
    # Whoever is followed and has no item of late leaves the place to a topic.
    posted = items.count[places] > 0
    wanted, places = wanted[posted], places[posted]
    nth = (rng.random(len(wanted)) * items.count[places]).astype(np.int64)
    shown[wanted] = items.first[places] + nth
    follows = np.zeros(len(rows), bool)
    follows[wanted] = True
    return shown, follows


def outcomes(
    world: World,
    crowd: Consumers,
    tastes: np.ndarray,
    rows: np.ndarray,
    items: Catalog,
    shown: np.ndarray,
    follows: np.ndarray,
) -> np.ndarray:
    """The probability of every outcome: (n, kinds) float32."""
    everyone = producers(world, crowd.day)
    places = items.places[shown]
    subjects = everyone.subjects[places]
    affinity = np.einsum("nk,nk->n", tastes[rows], subjects) / np.float32(np.sqrt(world.topics))
    liking = tastes[rows, items.topics[shown]]
    appeal = crowd.generosity()[rows] + items.quality[shown] + everyone.quality[places]
    return probabilities_of(affinity, liking, appeal, follows)


def probabilities_of(
    affinity: np.ndarray, liking: np.ndarray, appeal: np.ndarray, follows: np.ndarray
) -> np.ndarray:
    """See the top of the file. All (n,), or of shapes that broadcast. Returns (…, kinds).

    appeal: g + q.
    """
    lift = np.where(follows, np.float32(CLICK_FOLLOWED), np.float32(0))
    click = sigmoid(CLICK_BIAS + affinity + CLICK_TOPIC * liking + appeal + lift)
    columns = [click]
    for bias, slope in OUTCOMES.values():
        columns.append(click * sigmoid(bias + slope * affinity))
    return np.stack(columns, axis=-1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def drawn(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels with these probabilities; only what was clicked has another outcome. bool."""
    uniform = rng.random(probabilities.shape, np.float32)
    labels = np.empty(probabilities.shape, bool)
    click = probabilities[:, 0]
    labels[:, 0] = uniform[:, 0] < click
    for kind in range(1, len(KINDS)):
        # P(outcome | click) = P(outcome) / P(click)
        labels[:, kind] = labels[:, 0] & (uniform[:, kind] * click < probabilities[:, kind])
    return labels


def times(rng: np.random.Generator, n: int) -> np.ndarray:
    """Milliseconds since midnight by the clock of the world: (n,) int64."""
    moments = np.interp(rng.random(n), CLOCK_SHARES, CLOCK_MS).astype(np.int64)
    return np.minimum(moments, DAY_MS - 1)


def dwells(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How long each was looked at, in milliseconds: (n,) int64. A long view is a long one."""
    uniform = rng.random(len(labels), np.float32)
    clicked = labels[:, KINDS.index("click")]
    long_view = labels[:, KINDS.index("long_view")]
    short = np.where(clicked, 500 + 9_400 * uniform, 100 + 1_900 * uniform)
    return np.where(long_view, LONG_VIEW_MS * (1 + 11 * uniform), short).astype(np.int64)
