"""The e-mail campaigns of a simulated world, with an SVD of what receivers clicked before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from embeddings.embedders.svd import factorize
from embeddings.kernels.normalize import normalize, smoothed
from embeddings.spaces.rotation import procrustes
from embeddings.spaces.similarity import unit_rows
from jobs.reports.methods import THREADS
from jobs.reports.newcomers.mailings import BASE, WITH_BOTH, Mailing
from jobs.reports.newcomers.wide_deep import Rows, scores, without_vectors
from simulation import signups
from simulation.emails import Emails, emails
from simulation.engagements import KINDS, stream
from simulation.people import Consumers
from simulation.world import World

WORLD = World(consumers=60_000, producers=1_000, impressions=4.0)


@dataclass(frozen=True)
class Days:
    """How many days: before the first campaign, of campaigns whose clickers become the vectors of
    topics, of campaigns that rankers learn from, and of those that are scored."""

    window: int = 14
    first: int = 6
    train: int = 14
    test: int = 4

    @property
    def all(self) -> int:
        return self.window + self.first + self.train + self.test


DIM, SMOOTHING = 32, 1.0
PRIOR = 20  # clicks: the vector of a topic with fewer is short
WORDS = (
    "An e-mail is one of a campaign about a topic, to consumers drawn at random. The consumer's "
    "embedding is the SVD of the clicks of the days before, aligned from day to day; that of a "
    "topic is the mean of those who clicked its earlier campaigns."
)


@dataclass(frozen=True)
class Clicks:
    """One day: consumers and producers of the clicks, (c,) ids; and of all impressions, (s,)."""

    consumers: np.ndarray
    producers: np.ndarray
    shown: np.ndarray


def clicks(world: World, day: int) -> Clicks:
    found = []
    for part in stream(world, day):
        hits = part.labels[:, KINDS.index("click")]
        found.append((part.consumers[hits], part.producers[hits], part.consumers))
    return Clicks(*(np.concatenate(column) for column in zip(*found, strict=True)))


def world_mailing(world: World, days: Days, threads: int = THREADS) -> Mailing:
    """The campaigns of the last days are scored by rankers that have seen those before them."""
    past = [clicks(world, day) for day in range(days.window)]
    mailed = History.empty(world, days.all)
    spaces, clickers = Spaces(DIM), Clickers(world.topics, DIM)
    shown, truths = [], []
    for day in range(days.window, days.all):
        sent = emails(world, day)
        vectors = spaces.add(past, sent.consumers)
        rows = campaign_rows(world, day, sent, past, mailed)
        alike = clickers.likeness(vectors, sent.topics)
        shown.append((rows.with_numbers(likeness=alike), vectors))
        truths.append(sent.probabilities)
        mailed.add(sent)
        clickers.add(vectors, sent)
        past = [*past[1:], clicks(world, day)]
    train_on, test_on = joined(shown[days.first : -days.test]), joined(shown[-days.test :])

    def score(ranker: str, seed: int) -> np.ndarray:
        return scores(seen_by(ranker, train_on), seen_by(ranker, test_on), seed, threads)

    return Mailing(
        name="simulated",
        words=WORDS,
        users=test_on.users,
        labels=test_on.labels,
        activity=np.rint(np.expm1(test_on.numbers["log_clicks"])),
        score=score,
        truth=np.concatenate(truths[-days.test :]),
    )


def seen_by(ranker: str, rows: Rows) -> Rows:
    """The rows without what a ranker does not see."""
    if ranker == WITH_BOTH:
        return rows
    numbers = {name: column for name, column in rows.numbers.items() if name != "likeness"}
    rows = replace(rows, numbers=numbers)
    return rows.with_vectors(*without_vectors(len(rows))) if ranker == BASE else rows


def joined(parts: list[tuple[Rows, np.ndarray]]) -> Rows:
    """The rows of several days, and the vectors of their receivers: (n, k) of each day."""
    rows = [part for part, _ in parts]
    vectors = np.concatenate([found for _, found in parts])
    first = rows[0]
    n = sum(map(len, rows))
    whole = replace(
        first,
        users=np.concatenate([part.users for part in rows]),
        labels=np.concatenate([part.labels for part in rows]),
        categories={
            name: np.concatenate([part.categories[name] for part in rows])
            for name in first.categories
        },
        numbers={
            name: np.concatenate([part.numbers[name] for part in rows]) for name in first.numbers
        },
    )
    return whole.with_vectors(vectors, np.where(vectors.any(axis=1), np.arange(n), -1))


@dataclass
class History:
    """The e-mails that each consumer has received and clicked so far, by id."""

    received: np.ndarray
    clicked: np.ndarray

    @classmethod
    def empty(cls, world: World, days: int) -> History:
        """For ids up to those of the last day: a place has at most one new consumer a day."""
        room = world.consumers * (days + 2)
        return cls(np.zeros(room, np.int32), np.zeros(room, np.int32))

    def add(self, sent: Emails) -> None:
        np.add.at(self.received, sent.consumers, 1)
        np.add.at(self.clicked, sent.consumers, sent.clicked)


def campaign_rows(
    world: World, day: int, sent: Emails, past: list[Clicks], mailed: History
) -> Rows:
    """Topic, profile and their crosses; activity in the window; e-mails received and clicked."""
    ids = sent.consumers
    crowd = Consumers(world, day, ids, np.zeros(len(ids), np.int64))
    interest = signups.interests(world, crowd) + 1  # 0 for none
    categories = {
        "topic": sent.topics,
        "region": signups.regions(world, ids),
        "device": signups.devices(world, ids),
        "interest": interest,
        "interest x topic": interest * world.topics + sent.topics,
        "match": np.where(interest == 0, 0, 1 + (interest == sent.topics + 1)),
    }
    n_clicks = occurrences(np.concatenate([one.consumers for one in past]), ids)
    n_shown = occurrences(np.concatenate([one.shown for one in past]), ids)
    numbers = {
        "log_clicks": np.log1p(n_clicks),
        "log_shown": np.log1p(n_shown),
        "click_rate": (n_clicks + 1) / (n_shown + 5),
        "log_mailed": np.log1p(mailed.received[ids]),
        "mail_rate": (mailed.clicked[ids] + 1) / (mailed.received[ids] + 8),
    }
    labels = sent.clicked.astype(np.float32)
    return Rows(ids, labels, categories, numbers, *without_vectors(len(ids)))


def occurrences(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each wanted id is among the values: (n,)."""
    counts = np.bincount(values, minlength=int(wanted.max(initial=0)) + 1)
    return counts[wanted]


class Spaces:
    """SVDs of day after day, each rotated to the one before by the producers that both have."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.before: tuple[np.ndarray, np.ndarray] | None = None  # ids of producers, their vectors

    def add(self, past: list[Clicks], wanted: np.ndarray) -> np.ndarray:
        """The vectors of these consumers by the clicks of the past, (n, k); zeros without any."""
        consumer_ids, rows = np.unique(
            np.concatenate([one.consumers for one in past]), return_inverse=True
        )
        producer_ids, columns = np.unique(
            np.concatenate([one.producers for one in past]), return_inverse=True
        )
        shape = (len(consumer_ids), len(producer_ids))
        x = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
        sums, row_extra = smoothed(np.asarray(x.sum(axis=0)).ravel(), shape[0], SMOOTHING)
        factors = factorize(normalize(x, sums, row_extra), self.dim, 0, THREADS)
        rotation = np.eye(factors.producers.shape[1])
        if self.before is not None:
            old_ids, old = self.before
            _, own, other = np.intersect1d(producer_ids, old_ids, return_indices=True)
            rotation = procrustes(factors.producers[own], old[other])
        self.before = producer_ids, factors.producers @ rotation
        at = np.searchsorted(consumer_ids, wanted).clip(max=len(consumer_ids) - 1)
        known = (consumer_ids[at] == wanted)[:, None]
        return np.where(known, factors.consumers[at] @ rotation, 0).astype(np.float32)


class Clickers:
    """The vector of each topic: the mean direction of those who clicked its campaigns so far."""

    def __init__(self, topics: int, dim: int) -> None:
        self.sums = np.zeros((topics, dim))
        self.clicks = np.zeros(topics)

    def likeness(self, vectors: np.ndarray, topics: np.ndarray) -> np.ndarray:
        """The product of each consumer's direction and the topic's vector: (n,)."""
        means = self.sums / (self.clicks + PRIOR)[:, None]
        return np.vecdot(unit_rows(vectors), means[topics])

    def add(self, vectors: np.ndarray, sent: Emails) -> None:
        """vectors: (n, k) of the receivers. A topic's is less the mean of all its receivers."""
        found = unit_rows(vectors)
        for topic in np.unique(sent.topics):
            received = sent.topics == topic
            clicked = received & sent.clicked
            self.sums[topic] += (found[clicked] - found[received].mean(axis=0)).sum(axis=0)
            self.clicks[topic] += np.count_nonzero(clicked)
