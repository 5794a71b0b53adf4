"""From probabilities to an order: the weighted sum of the labels, and rules on the whole list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jobs.errors import SettingsError
from jobs.names import near
from jobs.settings import RankerSettings

PREFIX = "label_"


def weights_of(ranker: RankerSettings, labels: tuple[str, ...]) -> np.ndarray:
    """The weight of each label in the score, (L,). Raises SettingsError for an unknown label."""
    chosen: Mapping[str, float] = ranker.weights or {ranker.primary_label: 1.0}
    option = "ranker.weights" if ranker.weights else "ranker.primary_label"
    known = [label.removeprefix(PREFIX) for label in labels]
    for label in chosen:
        if label not in known:
            close = near(label, known)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise SettingsError(
                f"{option} names '{label}', which the ranker has no probability of.{hint} "
                f"Its labels are: {', '.join(known)}."
            )
    return np.array([chosen.get(label, 0.0) for label in known])


def best_order(scores: np.ndarray, producers: Sequence[str], top: int) -> list[int]:
    """The places of the `top` best, best first, so that no producer follows itself.

    The best item of another producer than the one before comes next; once only one producer is
    left, its items stay in their order. scores: (n,); of equal ones, the first comes first.
    """
    left = np.argsort(-scores, kind="stable").tolist()
    order: list[int] = []
    while left and len(order) < top:
        last = producers[order[-1]] if order else None
        # The first of another producer is near: only items of the last one are before it.
        at = next((at for at, place in enumerate(left) if producers[place] != last), 0)
        order.append(left.pop(at))
    return order
