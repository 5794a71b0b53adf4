"""The metrics of all versions of an embedding as small curves for a page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

WIDTH, HEIGHT = 200, 56  # of one curve, in the units of its SVG
MARGIN = 4


@dataclass(frozen=True)
class Curve:
    """One metric of the versions, oldest first.

    lines: the points of one polyline per space, "x,y x,y"; versions without the metric are left
    out. breaks: x of every version that is the first in another space. low, high, last: values.
    """

    name: str
    lines: list[str]
    breaks: list[float]
    low: float
    high: float
    last: float


def metrics_of(version: dict[str, Any]) -> dict[str, float]:
    """The finite numbers among a version's metrics: a publisher may put anything there."""
    metrics = version["lineage"].get("metrics")
    if not isinstance(metrics, dict):
        return {}
    found = {}
    for name, value in metrics.items():
        if isinstance(value, int | float) and isfinite(value):
            found[name] = value
    return found


def curves(versions: list[dict[str, Any]]) -> list[Curve]:
    """The curve of each metric that changes, by name. versions: described, oldest first.

    Of a day only the current version counts.
    """
    current = [version for version in versions if version["current"]]
    names = {name for version in current for name in metrics_of(version)}
    found = []
    for name in sorted(names):
        values = [metrics_of(version).get(name) for version in current]
        if len({value for value in values if value is not None}) > 1:
            found.append(curve(name, values, [version["space"] for version in current]))
    return found


def curve(name: str, values: list[float | None], spaces: list[str]) -> Curve:
    """values: one per version, None where it lacks the metric; spaces: of the versions."""
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    step = (WIDTH - 2 * MARGIN) / max(len(values) - 1, 1)
    lines: dict[str, list[str]] = {}
    for place, (value, space) in enumerate(zip(values, spaces, strict=True)):
        if value is not None:
            height = (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)
            point = f"{MARGIN + place * step:.1f},{HEIGHT - MARGIN - height:.1f}"
            lines.setdefault(space, []).append(point)
    breaks = []
    for place, (before, after) in enumerate(pairwise(spaces)):
        if before != after:
            breaks.append(round(MARGIN + (place + 0.5) * step, 1))
    return Curve(
        name, [" ".join(points) for points in lines.values()], breaks, low, high, known[-1]
    )
