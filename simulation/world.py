"""A world like that of a short-message service, in which the truth is known.

Consumers have tastes, producers have subjects, both over the same topics; producers post items,
consumers are shown some of them and engage with a known probability. All of it drifts as `Drift`
says. Whatever is asked of a day is computed from the world and the day alone:

    world = World(seed=7, drift=Drift(shocks=(9,)))
    shown = impressions(world, 12)           impressions, outcomes         (simulation.engagements)
    expected_auc(shown.probabilities[:, 0])  what no ranker surpasses             (simulation.truth)
    rates(world, consumers(world, 12))       expected clicks of every pair        (simulation.truth)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulation.drift import Drift

VERSION = 2  # raised when the same world gets other bytes


@dataclass(frozen=True)
class World:
    """How large a world is, its seed, and how it drifts."""

    consumers: int = 100_000
    producers: int = 2_000
    topics: int = 16
    impressions: float = 0.3  # mean per consumer and day
    seed: int = 0
    drift: Drift = field(default_factory=Drift)

    def __post_init__(self) -> None:
        for name, least in (("consumers", 1), ("producers", 1), ("topics", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.topics % 2:
            raise ValueError(f"topics is {self.topics}; expected an even number")
        if self.impressions < 0:
            raise ValueError(f"impressions is {self.impressions}; expected 0 or more")
