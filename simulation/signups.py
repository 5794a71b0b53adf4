"""Who signs up on a day, and what is known of a consumer from then on: the profile."""

from __future__ import annotations

import numpy as np

from simulation.chance import uniforms
from simulation.people import Consumers, degrees
from simulation.picking import chosen
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
