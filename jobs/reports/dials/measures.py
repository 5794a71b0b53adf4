"""For each dial of the simulated world, what the loop measures of it and what is true.

    topics       Jensen-Shannon divergence of the topics shown on a day and a week before
    tastes       NDCG@20 that vectors lose in a week by ageing
    subjects     the same
    consumers    share of a day's consumers that were not there in the four weeks before
    producers    share of a day's producers that were not there up to a week before
    words        share of the most frequent hashtags of a week that were so the week before
    meanings     share of the ambiguous words that are used otherwise than four weeks before

The functions that measure are those of the steps `drift` and `words_post` and of `evergreen decay`.
The truth is computed from the world alone: from its probabilities, not from what was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from embeddings.monitors.alarms import Alarm, alarms
from embeddings.monitors.divergence import jensen_shannon
from embeddings.monitors.overlap import new_share, overlap, top
from embeddings.words.meaning import movement
from embeddings.words.training import WordConfig
from jobs.reports.decay.coverage import measured as decay_of
from jobs.reports.words.learning import counted, half_fits
from jobs.reports.words.run import DIM, EPOCHS, TRUE_SHARE, frequent_of
from jobs.reports.words.texts import days_of, simulated_week
from jobs.settings import Settings
from jobs.words import post
from jobs.words.world import changed_share
from simulation.engagements import SURFACES, impressions, topic_shares
from simulation.items import catalog
from simulation.people import consumers, degrees, producer_ids, producers
from simulation.text import FLATNESS, KINDS, occupants
from simulation.world import World

WEEK, MONTH = 7, 28  # days
DAY = 30  # that is looked at: a month is behind it
DRAWS = 100  # of the tested days, for the true loss of vectors
GAP = 4  # weeks between the texts whose words are compared
FOR_YOU = SURFACES.index("for_you")  # where an item is shown for its topic


@dataclass(frozen=True)
class Pair:
    """A measured number, and the true one."""

    measured: float
    true: float


def topics(settings: Settings, world: World) -> Pair:
    shown = [topics_shown(world, day) for day in (DAY - WEEK, DAY)]
    expected = [topics_expected(world, day) for day in (DAY - WEEK, DAY)]
    return Pair(jensen_shannon(*shown), jensen_shannon(*expected))


def topics_shown(world: World, day: int) -> np.ndarray:
    """(k,) impressions of each topic, of those that were shown for their topic."""
    shown = impressions(world, day)
    items = catalog(world, day)
    order = np.argsort(items.ids)
    rows = order[np.searchsorted(items.ids[order], shown.items[shown.surfaces == FOR_YOU])]
    return np.bincount(items.topics[rows], minlength=world.topics)


def topics_expected(world: World, day: int) -> np.ndarray:
    """(k,) shares of the same, over all consumers by their activity."""
    crowd = consumers(world, day)
    there = catalog(world, day).by_topic.weights > 0
    return crowd.activity() @ topic_shares(world, day, crowd.tastes(), there)


def retrieval(settings: Settings, world: World) -> Pair:
    for row in decay_of(settings, world, DRAWS):
        if (row["loss"], row["age"]) == ("by ageing", WEEK):
            return Pair(float(row["lost"]), float(row["truth"]))
    raise AssertionError("the decay of a week is measured")


def new_consumers(settings: Settings, world: World) -> Pair:
    """True: of those who are expected to come, who is expected not to have come before."""
    crowd = consumers(world, DAY)
    rates = world.impressions * crowd.activity()  # impressions of a day are Poisson distributed
    shown = -np.expm1(-rates)
    days = np.where(crowd.born > 0, np.minimum(DAY - crowd.born, MONTH), MONTH)
    never_before = np.exp(-rates * days)
    found = newcomers(world, "consumers", range(DAY - MONTH, DAY))
    return Pair(found, float(shown @ never_before / shown.sum()))


def new_producers(settings: Settings, world: World) -> Pair:
    """True: of all producers, whether they are shown or not."""
    came = producer_ids(world, DAY) != producer_ids(world, DAY - WEEK)
    found = newcomers(world, "producers", range(DAY - MONTH, DAY - WEEK + 1))
    return Pair(found, float(came.mean()))


def newcomers(world: World, side: str, before: range) -> float:
    """Share of the day's distinct ids that no impression of these days has."""
    known = [np.unique(getattr(impressions(world, day), side)) for day in before]
    now = np.unique(getattr(impressions(world, DAY), side))
    return new_share(now, np.unique(np.concatenate(known)))


def hashtags(settings: Settings, world: World) -> Pair:
    weeks = [frequent_of(simulated_week(world, week)) for week in (0, 1)]
    expected = [hashtags_expected(world, days_of(week)) for week in (0, 1)]
    return Pair(post.overlaps(weeks[1], weeks[0])["hashtag"], overlap(expected[1], expected[0]))


def hashtags_expected(world: World, days: range) -> np.ndarray:
    """The hashtags that are expected to be most frequent on these days."""
    _, places, pace = KINDS["hashtag"]
    weights = 1 / (np.arange(places) + FLATNESS)
    numbers, counts = [], []
    for day in days:
        posted = degrees(producers(world, day).subjects).mean(axis=0)  # share of each topic
        numbers.append(occupants(world, day, "hashtag", places, pace).ravel())
        counts.append(np.outer(posted, weights).ravel())
    each, rows = np.unique(np.concatenate(numbers), return_inverse=True)
    return top(each, np.bincount(rows, np.concatenate(counts)), post.MOST["hashtag"])


def moved_words(settings: Settings, world: World) -> Pair:
    """True: whose topic is another one in most pairs of days of the two weeks."""
    fits = []
    for week in (0, GAP):
        words = counted(simulated_week(world, week))
        fits.append(half_fits(words, WordConfig(DIM, world.seed, EPOCHS)))
    found = movement(*fits)
    words_ = [word.decode() for word in found.ids.tolist()]
    ambiguous = np.array([word[0] == "a" and word[1:].isdigit() for word in words_])
    changed = changed_share(world, words_, days_of(0), days_of(GAP)) > TRUE_SHARE
    return Pair(float(found.found()[ambiguous].mean()), float(changed[ambiguous].mean()))


@dataclass(frozen=True)
class Dial:
    """A dial, how it is measured, and in which world."""

    name: str
    number: str  # what is measured, for a picture
    measure: Callable[[Settings, World], Pair]
    world: World


PEOPLE = World(consumers=1000, producers=300, topics=8, impressions=6.0)
TEXTS = World(consumers=10, producers=2000, topics=8)
DIALS = (
    Dial("topics", "divergence of the topics in a week, bits", topics, PEOPLE),
    Dial("tastes", "NDCG@20 lost in a week by ageing", retrieval, PEOPLE),
    Dial("subjects", "NDCG@20 lost in a week by ageing", retrieval, PEOPLE),
    Dial("consumers", "consumers unknown before", new_consumers, PEOPLE),
    Dial("producers", "producers unknown a week before", new_producers, PEOPLE),
    Dial("words", "hashtags that were frequent a week ago", hashtags, TEXTS),
    Dial("meanings", "ambiguous words used otherwise", moved_words, TEXTS),
)


# Shocks


def alarms_of_topics(world: World, days: int) -> list[Alarm]:
    """The alarms about the topics shown and about clicks, of days from 0 on."""
    shown, clicks = [], []
    for day in range(days):
        shown.append(topics_shown(world, day))
        clicked = impressions(world, day).labels[:, 0]
        clicks.append([clicked.sum(), (~clicked).sum()])
    return alarms({"topics of items": np.array(shown), "label click": np.array(clicks)})


def with_shock(world: World, day: int) -> World:
    return replace(world, drift=replace(world.drift, shocks=(day,)))
