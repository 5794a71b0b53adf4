"""When the distance of a day from those before it is news, and not chance.

A threshold on the index itself would depend on the number of rows, and on how much one consumer's
rows resemble each other. Both are in the distances of the days before: what is judged is how many
times their mean a day's distance is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from embeddings.monitors.divergence import psi

WINDOW = 14  # days
LEAST = 5  # distances that must be known before a day can be judged
LEVEL = 0.0005  # probability of a false alarm on a day, all series together
FREEDOM = 4  # most degrees of freedom that a distance is trusted to have


@dataclass(frozen=True)
class Alarm:
    """A series that differs on a day. times: its distance, as a multiple of the usual one."""

    day: int
    series: str
    times: float
    probability: float


def alarms(
    series: Mapping[str, np.ndarray],
    window: int = WINDOW,
    least: int = LEAST,
    level: float = LEVEL,
) -> list[Alarm]:
    """The alarms of several series, by day. Each series: (days, bins) counts."""
    found: list[Alarm] = []
    for name, days in series.items():
        found += alarms_of(name, days, window, least, level / len(series))
    return sorted(found, key=lambda alarm: (alarm.day, alarm.probability))


def alarms_of(name: str, days: np.ndarray, window: int, least: int, level: float) -> list[Alarm]:
    """The days of one series, (days, bins), that differ from the window before them.

    In a still log, a distance is chance: proportional to χ² with bins - 1 degrees of freedom, so
    that its ratio to the mean of w others has the distribution F(bins - 1, w (bins - 1)). Rows that
    come in bursts, such as those of one popular item, leave fewer: hence FREEDOM. Distances to
    windows that overlap are not independent, which about doubles the level. After an alarm the
    window begins anew: what has changed is compared with once.
    """
    found = []
    usual: list[float] = []
    first = 0
    freedom = min(days.shape[1] - 1, FREEDOM)
    for day in range(1, len(days)):
        before = days[max(first, day - window) : day].sum(axis=0)
        value = distance(before, days[day])
        if np.isnan(value):  # a day without rows, or the first one with some
            continue
        if len(usual) >= least:
            times = value / max(float(np.mean(usual)), 1e-12)
            probability = float(fdtrc(freedom, freedom * len(usual), times))
            if probability < level:
                found.append(Alarm(day, name, times, probability))
                first = day
                continue
        usual = [*usual, value][-window:]
    return found


def distance(before: np.ndarray, now: np.ndarray) -> float:
    """The stability index, in units of what chance makes of so many rows: n m / (n + m) · PSI."""
    n, m = before.sum(), now.sum()
    return float(psi(before, now) * n * m / max(n + m, 1))


def folded(days: np.ndarray, most: int) -> np.ndarray:
    """(days, n) counts -> (days, most + 1): the most frequent columns, and all others together."""
    if days.shape[1] <= most:
        return days
    top = np.argsort(-days.sum(axis=0), kind="stable")[:most]
    kept = days[:, top]
    return np.column_stack([kept, days.sum(axis=1) - kept.sum(axis=1)])
