"""The budget rule: a day whose expected loss is small is not worth a training.

Tomorrow's ranker may be today's once more. What that loses is expected from what rankers of that
age have lost so far; where it is less than δ, the training is skipped. Source: Verachtert, Jeunen
and Goethals 2023, "Scheduling on a Budget: Avoiding Stale Recommendations with Timely Updates",
Machine Learning with Applications 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import isnan

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


def expected_loss(losses: Mapping[int, list[float]], age: int) -> float | None:
    """The mean loss at this age; None where no ranker has been that old."""
    if age == 0:
        return 0.0
    seen = losses.get(age)
    return sum(seen) / len(seen) if seen else None


def pays(expected: float | None, delta: float) -> bool:
    """Is a training worth it? Also where nothing is known about the loss without it."""
    return expected is None or expected >= delta


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
