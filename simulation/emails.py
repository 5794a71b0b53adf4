"""E-mail campaigns: who received one on a day, and who clicked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.chance import generator
from simulation.engagements import sigmoid
from simulation.people import consumers
from simulation.world import World

PER_DAY = 3  # campaigns
REACH = 0.02  # share of the consumers that receive one
BIAS = -2.5
BY_TASTE = 1.2
BY_ACTIVITY = 0.4  # per unit of the logarithm of the activity


@dataclass(frozen=True)
class Emails:
    """n e-mails of a day.

    campaigns: (n,) number since day 0; topics: (n,) of the campaign; consumers: (n,) ids; clicked:
    (n,) bool; probabilities: (n,) float64, the truth.
    """

    campaigns: np.ndarray
    topics: np.ndarray
    consumers: np.ndarray
    clicked: np.ndarray
    probabilities: np.ndarray


def emails(world: World, day: int) -> Emails:
    """The e-mails of a day's campaigns, each about one topic and to consumers at random.

    P(click) = σ(bias + 1.2 t + 0.4 log activity), t the consumer's taste for the topic.
    """
    rng = generator(world.seed, "emails", day)
    everyone = consumers(world, day)
    sent = rng.random((PER_DAY, len(everyone.ids))) < REACH
    numbers, rows = np.nonzero(sent)
    topics = rng.integers(world.topics, size=PER_DAY)[numbers]
    crowd = everyone.only(rows)
    liking = crowd.tastes()[np.arange(len(rows)), topics].astype(np.float64)
    activity = np.log(crowd.activity())
    probabilities = sigmoid(BIAS + BY_TASTE * liking + BY_ACTIVITY * activity)
    clicked = rng.random(len(rows)) < probabilities
    return Emails(day * PER_DAY + numbers, topics, crowd.ids, clicked, probabilities)
