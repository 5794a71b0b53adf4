"""New users of a simulated world: their web visits before sign-up, and whom they follow at once."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from jobs.reports.newcomers.signups import KNOWN, TEST, TRAIN, NewUsers
from simulation import signups
from simulation.drift import Drift
from simulation.graph import FAME, circles, degree, follows, main_topics
from simulation.labels import labels
from simulation.people import Consumers, consumers, popularity, producers
from simulation.world import World

WORLD = World(consumers=20_000, producers=500, impressions=0.0, drift=Drift(consumers=0.03))
DAYS = (20, 8, 4)  # of sign-ups that embeddings, then rankers learn from, then of those asked about
CANDIDATES = 20
WORDS = {
    "domains": "web domains visited before sign-up",
    "profile": "region, device and declared interest",
    "contacts": "the address book",
    "follow": "a follow at sign-up",
}


def new_users(world: World, days: tuple[int, int, int]) -> NewUsers:
    """Known: everyone who is there when the first days are over, with the domains of newcomers."""
    last_known = days[0]
    known = consumers(world, last_known)
    crowds = [known]
    parts = [np.full(len(known.ids), KNOWN)]
    for day in range(last_known + 1, sum(days) + 1):
        crowds.append(signups.signups(world, day).crowd)
        part = TRAIN if day <= last_known + days[1] else TEST
        parts.append(np.full(len(crowds[-1].ids), part))
    crowd = Consumers(
        world,
        last_known,
        np.concatenate([each.ids for each in crowds]),
        np.concatenate([each.born for each in crowds]),
    )
    domains, contacts = visits_and_contacts(world, sum(days), crowd)
    graph = follow_matrix(world, crowd)
    return NewUsers(
        name="simulated",
        words=WORDS,
        parts=np.concatenate(parts),
        domains=domains,
        names=np.arange(signups.DOMAINS).astype(np.str_),
        profile={
            "region": signups.regions(world, crowd.ids),
            "device": signups.devices(world, crowd.ids),
            "interest": signups.interests(world, crowd) + 1,  # 0 for none
        },
        contacts=contacts,
        follows=graph,
        topics=topics_of(world, last_known),
        candidates=CANDIDATES,
        truth=lambda users, columns: truth(world, crowd, users, columns),
    )


def visits_and_contacts(
    world: World, days: int, crowd: Consumers
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """The domains of all who signed up, (n, domains), and their address books, (n, n)."""
    order = np.argsort(crowd.ids)
    n = len(crowd.ids)

    def rows(ids: np.ndarray) -> np.ndarray:
        """Of consumers by id; -1 for those who are not in the crowd."""
        at = np.searchsorted(crowd.ids[order], ids).clip(max=n - 1)
        return np.where(crowd.ids[order][at] == ids, order[at], -1)

    visited, known = [], []
    for day in range(1, days + 1):
        found = signups.signups(world, day)
        own = rows(found.crowd.ids)
        visited.append(np.column_stack([own[found.visits[:, 0]], found.visits[:, 1]]))
        known.append(np.column_stack([own[found.contacts[:, 0]], rows(found.contacts[:, 1])]))
    return ones(np.concatenate(visited), (n, signups.DOMAINS)), ones(np.concatenate(known), (n, n))


def ones(pairs: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    """A 1 for each of the pairs, (r, 2), that has both ends."""
    pairs = pairs[(pairs >= 0).all(axis=1)]
    found = sp.csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    found.data[:] = 1.0  # a pair that occurs twice counts once
    return found


def follow_matrix(world: World, crowd: Consumers) -> sp.csr_matrix:
    rows, places = follows(world, crowd)
    return ones(np.column_stack([rows, places]), (len(crowd.ids), world.producers))


def topics_of(world: World, day: int) -> np.ndarray:
    """The topic that people gave each producer + 1, 0 for those whom they gave none: (m,)."""
    given = labels(world, day)
    found = np.zeros(world.producers, np.int64)
    ids = producers(world, day).ids
    order = np.argsort(ids)
    found[order[np.searchsorted(ids[order], given.ids)]] = given.topics + 1
    return found


def truth(
    world: World, crowd: Consumers, users: np.ndarray, places: np.ndarray
) -> dict[str, np.ndarray]:
    """The probability that each follows a producer at least once: 1 − (1 − q)^edges.

    q is the probability of one edge. By the taste alone, the number of edges is not known: the mean
    over those of the crowd.
    """
    shares = np.diff(circles(world, crowd), axis=1, prepend=0)
    shares /= shares.sum(axis=1, keepdims=True)
    ids = np.arange(world.producers)
    topics = main_topics(world, ids)
    weights = popularity(world, ids) ** FAME
    within = weights / np.bincount(topics, weights, minlength=world.topics)[topics]
    q = (shares[users, topics[places]] * within[places]).astype(np.float64)
    edges = degree(world, crowd.ids)
    some = np.random.default_rng(0).choice(edges, 200)
    by_taste = np.mean([1 - (1 - q) ** count for count in some], axis=0)
    return {"truth, by taste": by_taste, "truth, all": 1 - (1 - q) ** edges[users]}
