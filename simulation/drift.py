"""What changes from day to day, how fast, and when.

Two kinds of change, both without a memory: day 300 is computed without days 0 to 299.

    wandering   a vector of standard normal numbers turns in a plane of its own, at its own speed
    turnover    the occupant of a place leaves, and another one with a number of its own moves in
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from simulation.chance import normals, uniforms

SHARES = ("consumers", "producers", "words", "meanings")
WAVES = 64  # of what wanders together


@dataclass(frozen=True)
class Drift:
    """The dials. A rate of wandering is per day: after t days, the correlation is exp(-rate t).

    A share of turnover is per day, at most 0.5. With all of them zero, people are still; without
    new items, everything is, and each day is a new draw from the same probabilities.
    """

    topics: float = 0.1  # rate of the popularity of topics
    tastes: float = 0.04  # rate of what a consumer likes
    subjects: float = 0.02  # rate of what a producer writes about
    consumers: float = 0.01  # share that leaves and is replaced by sign-ups
    producers: float = 0.01  # share that leaves and is replaced by others
    words: float = 0.05  # share of hashtags replaced; links go faster, words slower
    meanings: float = 0.01  # share of ambiguous words that change their topic
    shocks: tuple[int, ...] = ()  # numbers of the days on which tastes, subjects and topics turn
    new_items: bool = True  # are items posted every day? Otherwise those of day 0 are always shown

    def __post_init__(self) -> None:
        for name in rates():
            value = getattr(self, name)
            most = 0.5 if name in SHARES else 10.0
            if not 0 <= value <= most:
                raise ValueError(f"{name} is {value}; expected a rate from 0 to {most}")

    def scaled(self, factor: float) -> Drift:
        """All rates times the factor; shocks and new items stay."""
        return replace(self, **{name: factor * getattr(self, name) for name in rates()})

    def epoch(self, day: int) -> int:
        """How many shocks there were up to the day, the day included."""
        return sum(shock <= day for shock in self.shocks)


def rates() -> list[str]:
    """The names of the dials that are rates or shares."""
    return [field.name for field in fields(Drift) if field.name not in ("shocks", "new_items")]


STILL = Drift().scaled(0)
STANDING = replace(STILL, new_items=False)


def wandering(
    seed: int, name: str, ids: np.ndarray, dim: int, rate: float, ages: np.ndarray | int
) -> np.ndarray:
    """x(t) = a cos ωt + b sin ωt of each id, where a and b are standard normal vectors of its own.

    ω is Cauchy distributed with scale `rate`, so that x(s) and x(t) have the correlation
    E cos ω(t - s) = exp(-rate |t - s|), and every x(t) is standard normal (Rahimi and Recht, 2007,
    random Fourier features of the exponential kernel). At rate 0, x is a.

    ids: (n,); ages: t in days, (n,) or one for all. Returns (n, dim) float32.
    """
    start = normals(seed, name, ids, dim)
    if rate == 0 or not np.any(ages):
        return start
    speeds = rate * np.tan(np.pi * (uniforms(seed, f"{name}/speed", ids) - 0.5))
    angles = speeds * ages
    cosines = np.cos(angles).astype(np.float32)[:, None]
    sines = np.sin(angles).astype(np.float32)[:, None]
    return cosines * start + sines * normals(seed, f"{name}/end", ids, dim)


def wandering_together(seed: int, name: str, dim: int, rate: float, day: int) -> np.ndarray:
    """One vector whose numbers wander independently, at many speeds each. Returns (dim,) float64.

    The mean of WAVES wanderings, so that it is close to an Ornstein-Uhlenbeck process.
    """
    waves = np.arange(WAVES * dim)
    each = wandering(seed, name, waves, 2, rate, day)[:, 0].astype(np.float64)
    return each.reshape(WAVES, dim).sum(axis=0) / np.sqrt(WAVES)


@dataclass(frozen=True)
class Turnover:
    """Which occupant of each of n places is there on a day.

    The occupants of a place follow each other at a speed of its own, uniform between 0 and twice
    the share, so that some places change often and others hardly ever.
    """

    speeds: np.ndarray  # (n,) occupants per day
    phases: np.ndarray  # (n,) in [0, 1)

    @classmethod
    def of(cls, seed: int, name: str, places: np.ndarray, share: float) -> Turnover:
        speeds = 2 * share * uniforms(seed, f"{name}/turnover", places)
        return cls(speeds, uniforms(seed, f"{name}/phase", places))

    def generation(self, day: int) -> np.ndarray:
        """How many occupants each place has had before: (n,) int64, 0 for the first one."""
        return np.floor(self.speeds * day + self.phases).astype(np.int64)

    def born(self, day: int) -> np.ndarray:
        """The day on which the occupant of the day moved in: (n,) int64, 0 or less for the first.

        It is 0 for all that were there before the log.
        """
        generation = self.generation(day)
        waited = np.maximum(generation - self.phases, 0)
        first = np.ceil(waited / np.maximum(self.speeds, 1e-12)).astype(np.int64)
        return np.where(generation > 0, first, 0)
