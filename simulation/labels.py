"""Topics as people see them: labels of the top producers, and degrees of what anyone is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.chance import uniforms
from simulation.people import Consumers, degrees, producers
from simulation.world import World

LABELLED = 1000  # producers, the most popular ones
MISTAKES = 0.05  # share of labels that are drawn at random


@dataclass(frozen=True)
class Labels:
    """n producers: ids (n,), most popular first, and the topic that a person gave each, (n,)."""

    ids: np.ndarray
    topics: np.ndarray


def labels(world: World, day: int) -> Labels:
    """The topics of the top producers, labelled by people who make mistakes."""
    everyone = producers(world, day)
    top = np.argsort(-everyone.popularity, kind="stable")[:LABELLED]
    ids = everyone.ids[top]
    topics = everyone.subjects[top].argmax(axis=1)
    mistaken = uniforms(world.seed, "mistaken", ids) < MISTAKES
    anything = (world.topics * uniforms(world.seed, "mistake", ids)).astype(np.int64)
    return Labels(ids, np.where(mistaken, anything, topics))


def known_for(world: World, day: int) -> np.ndarray:
    """How much each producer of a day is known for each topic: (m, k), rows sum to 1."""
    return degrees(producers(world, day).subjects)


def interested_in(crowd: Consumers) -> np.ndarray:
    """How much each consumer is interested in each topic on the crowd's day: (n, k)."""
    return degrees(crowd.tastes())
