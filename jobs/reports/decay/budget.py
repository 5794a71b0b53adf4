"""The budget rule, replayed: what it would have saved and lost on days that are all known.

The rule itself is `models.retraining`. In the loop it is `ranker.retrain = "when it pays"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import isnan

from models.retraining import expected_loss, pays

Cells = Mapping[
    tuple[int, int], float
]  # (learned, tested) positions -> the metric, higher is better


def observed_losses(cells: Cells, days: list[date], today: int) -> dict[int, list[float]]:
    """What rankers have lost so far: age in days -> loss on every day that was tested by `today`.

    A loss is what the ranker lacks to the one that was trained up to the day before.
    """
    losses: dict[int, list[float]] = {}
    for (last, test), value in cells.items():
        loss = cells[test - 1, test] - value
        # NaN on a day whose rows are all of one class, which shows nothing.
        if test <= today and not isnan(loss):
            losses.setdefault(age_of(days, last, test), []).append(loss)
    return losses


def age_of(days: list[date], last: int, test: int) -> int:
    """The days that something has missed; 0 where it knows all that was there before the test."""
    return (days[test] - days[last]).days - (days[test] - days[test - 1]).days


@dataclass(frozen=True)
class Replay:
    """served: tested -> learned position of the ranker that is served then. trainings: their
    positions, the first one included."""

    delta: float
    served: dict[int, int]
    trainings: list[int]

    @property
    def skipped(self) -> int:
        return len(self.served) - len(self.trainings)


def replay(cells: Cells, days: list[date], delta: float) -> Replay:
    """Serve the days one after the other, and decide after each whether to train.

    Every decision knows only the days up to its own. cells: of all pairs of the days.
    """
    served = {}
    trainings: list[int] = []
    for today in range(len(days) - 1):
        tomorrow = today + 1
        if trainings:
            age = age_of(days, trainings[-1], tomorrow)
            expected = expected_loss(observed_losses(cells, days, today), age)
        if not trainings or pays(expected, delta):
            trainings.append(today)
        served[tomorrow] = trainings[-1]
    return Replay(delta, served, trainings)
