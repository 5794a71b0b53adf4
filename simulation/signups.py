"""Who signs up on a day, and what is known of a consumer from then on: the profile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulation.chance import bits, generator, uniforms
from simulation.people import Consumers, consumers, degrees
from simulation.picking import Groups, chosen
from simulation.world import World

REGIONS = 20
DEVICES = ("phone", "tablet", "web")
DEVICE_SHARES = np.array([0.7, 0.1, 0.2])
DECLARES = 0.6  # share of the consumers that declare an interest


def regions(world: World, ids: np.ndarray) -> np.ndarray:
    """Where each consumer lives: (n,), the share of region r falls with 1 / (r + 1)."""
    shares = 1 / np.arange(1, REGIONS + 1)
    bounds = np.cumsum(shares / shares.sum())[:-1]
    return np.searchsorted(bounds, uniforms(world.seed, "region", ids), side="right")


def devices(world: World, ids: np.ndarray) -> np.ndarray:
    """What each consumer uses: (n,) of DEVICES."""
    bounds = np.cumsum(DEVICE_SHARES)[:-1]
    return np.searchsorted(bounds, uniforms(world.seed, "device", ids), side="right")


def interests(world: World, crowd: Consumers) -> np.ndarray:
    """The topic that each declared at sign-up, -1 for none: (n,). It never changes afterwards."""
    cumulated = np.cumsum(degrees(crowd.first_tastes()), axis=1)
    topics = chosen(cumulated, uniforms(world.seed, "interest", crowd.ids))
    declares = uniforms(world.seed, "declares", crowd.ids) < DECLARES
    return np.where(declares, topics, -1)


# --- the day of the sign-up


CHUNK = 2048  # newcomers whose probabilities are in memory at once
DOMAINS = 1000
TOP_DOMAINS = 5  # seen by nearly all browsers
SHARE_OF_TOP = 0.85  # of the browsers that see the fifth domain
SHARE_OF_HUNDREDTH = 0.005
LEANING = 0.8  # how much the taste for its topic decides about a visit of a domain
KEPT_DAYS = 28  # after the sign-up, the visits before it are forgotten
CONTACTS = 4.0  # mean number in an address book
NEARBY = 0.5  # share of the contacts that live in the same region


@dataclass(frozen=True)
class Signups:
    """n newcomers of a day.

    crowd: who they are; regions, devices, interests: (n,) as declared; visits: (v, 2) rows of
    newcomers and numbers of domains, before the sign-up; contacts: (c, 2) rows of newcomers and ids
    of consumers in their address books.
    """

    crowd: Consumers
    regions: np.ndarray
    devices: np.ndarray
    interests: np.ndarray
    visits: np.ndarray
    contacts: np.ndarray


def signups(world: World, day: int) -> Signups:
    """Those who signed up on a day. Nobody has on day 0, with which the log begins."""
    everyone = consumers(world, day)
    crowd = newcomers(everyone)
    return Signups(
        crowd,
        regions(world, crowd.ids),
        devices(world, crowd.ids),
        interests(world, crowd),
        visits(world, day, crowd),
        contacts(world, day, crowd, everyone),
    )


def newcomers(everyone: Consumers) -> Consumers:
    """Those of a day's consumers who have signed up on it."""
    new = (everyone.born == everyone.day) & (everyone.ids >= everyone.world.consumers)
    return everyone.only(np.flatnonzero(new))


@lru_cache(maxsize=KEPT_DAYS + 1)
def visits_of(world: World, day: int) -> tuple[np.ndarray, np.ndarray]:
    """Who signed up on a day, (n,) ids, and their visits, as in `Signups`."""
    crowd = newcomers(consumers(world, day))
    return crowd.ids, visits(world, day, crowd)


def remembered_visits(crowd: Consumers) -> np.ndarray:
    """(v, 2): rows of the crowd and domains that they visited before they signed up, row by row.

    None of those who were there before the log, and of those who signed up over KEPT_DAYS ago.
    """
    found = [np.empty((0, 2), np.int64)]
    signed_up = crowd.ids >= crowd.world.consumers
    for day in np.unique(crowd.born[signed_up & (crowd.day - crowd.born <= KEPT_DAYS)]).tolist():
        ids, visited = visits_of(crowd.world, day)
        _, places, rows = np.intersect1d(ids, crowd.ids, assume_unique=True, return_indices=True)
        row_of = np.full(len(ids), -1)
        row_of[places] = rows
        own = np.stack([row_of[visited[:, 0]], visited[:, 1]], axis=1)
        found.append(own[own[:, 0] >= 0])
    together = np.concatenate(found)
    return together[np.argsort(together[:, 0], kind="stable")]


def domain_shares() -> np.ndarray:
    """The share of browsers that see each domain, most popular first: (DOMAINS,).

    Twitter found that over 80 % of browsers see the top five domains and half a percent the
    hundredth: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings".
    """
    ranks = np.arange(1, DOMAINS + 1)
    steepness = np.log(SHARE_OF_TOP / SHARE_OF_HUNDREDTH) / np.log(100 / TOP_DOMAINS)
    falling = SHARE_OF_TOP * (ranks / TOP_DOMAINS) ** -steepness
    top = SHARE_OF_TOP + 0.02 * (TOP_DOMAINS - ranks)
    return np.where(ranks <= TOP_DOMAINS, top, falling)


def visits(world: World, day: int, crowd: Consumers) -> np.ndarray:
    """(v, 2): rows of the crowd and domains. A domain is about one topic, except for the top ones.

    P(visit) = share · exp(ct - c²/2), which has the mean `share` over all tastes t.
    """
    found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    for start in range(0, len(crowd.ids), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(crowd.ids)))
        shares = visit_shares(world, crowd.only(rows))
        drawn = generator(world.seed, "visits", day, start).random(shares.shape)
        found.append(np.argwhere(drawn < shares) + np.array([start, 0]))
    return np.concatenate(found)


def visit_shares(world: World, crowd: Consumers) -> np.ndarray:
    """The probability of every visit: (n, DOMAINS)."""
    liking = crowd.tastes()[:, domain_topics(world)].astype(np.float64)
    liking[:, :TOP_DOMAINS] = LEANING / 2  # no lean: the exponent is 0
    return domain_shares() * np.exp(LEANING * liking - LEANING**2 / 2)


def domain_topics(world: World) -> np.ndarray:
    """The topic of each domain: (DOMAINS,)."""
    drawn = bits(world.seed, "domain", np.arange(DOMAINS))
    return (drawn % np.uint64(world.topics)).astype(np.int64)


def contacts(world: World, day: int, crowd: Consumers, everyone: Consumers) -> np.ndarray:
    """(c, 2): rows of the crowd and ids of consumers, half of them of the same region."""
    rng = generator(world.seed, "contacts", day)
    rows = np.repeat(np.arange(len(crowd.ids)), rng.poisson(CONTACTS, len(crowd.ids)))
    anyone = rng.integers(len(everyone.ids), size=len(rows))
    living = Groups.of(regions(world, everyone.ids), np.ones(len(everyone.ids)), REGIONS)
    neighbours = living.pick(regions(world, crowd.ids)[rows], rng.random(len(rows)))
    near = rng.random(len(rows)) < NEARBY
    ids = everyone.ids[np.where(near, neighbours, anyone)]
    known = ids != crowd.ids[rows]
    return np.stack([rows[known], ids[known]], axis=1)
