"""The budget rule: a day whose expected loss is small is not worth a training.

Tomorrow's ranker may be today's once more. What that loses is expected from what rankers of that
age have lost so far; where it is less than δ, the training is skipped. Source: Verachtert, Jeunen
and Goethals 2023, "Scheduling on a Budget: Avoiding Stale Recommendations with Timely Updates",
Machine Learning with Applications 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def expected_loss(losses: Mapping[int, Sequence[float]], age: int) -> float | None:
    """The mean loss at this age; None where no ranker has been that old.

    losses: age in days -> what rankers of that age lacked to one that had missed nothing.
    """
    if age == 0:
        return 0.0
    seen = losses.get(age)
    return sum(seen) / len(seen) if seen else None


def pays(expected: float | None, delta: float) -> bool:
    """Is a training worth it? Also where nothing is known about the loss without it."""
    return expected is None or expected >= delta
