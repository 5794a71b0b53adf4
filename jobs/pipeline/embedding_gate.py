"""Which version of an embedding the alias `champion` may move to: measured beside EASE.

The day after a version has judged it and EASE on the same consumers (the benchmark `retrieval`). It
is held back if its NDCG@20 is significantly below

    popularity + embedding.retrieval_gate · (EASE − popularity),

that is, if the whole 95 % interval of its own figure is; where EASE is no better than popularity,
below EASE. A version that no day has judged is not held back. Publication never depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING

from embeddings.benchmarks.results import Result, whole
from embeddings.registry.aliases import REASON_LENGTH

if TYPE_CHECKING:
    from embeddings.registry.client import Registry, Version
    from jobs.settings import Settings

CHAMPION = "champion"
TASK, METRIC = "retrieval", "ndcg20"
EASE, POPULARITY = "ease_of_2000", "popularity"  # as the benchmark names them


def promote_version(
    settings: Settings,
    version: Version,
    reason: str,
    by: str,
    only_forward: bool = True,
    by_person: bool = False,
) -> str:
    """Point the alias at a version unless it is held back; returns why it is, or ''.

    reason, by: of the move, for the history, which also has the reason for a version held back.
    by_person: what a person has decided is not judged.
    """
    registry = settings.open_registry()
    gate = 0.0 if by_person else settings.embedding.retrieval_gate
    held = held_back(registry.results(version), version.day, gate)
    if not held:
        line = " ".join(reason.split())[:REASON_LENGTH]
        registry.set_alias(version.name, CHAMPION, version, only_forward, line, by)
    elif is_ahead(registry, version):
        registry.hold_alias(version.name, CHAMPION, f"{version.id} is held back: {held}", by)
    return held


def held_back(results: Iterable[Result], day: date, gate: float) -> str:
    """Why the version of a day is held back, by the results of the day after it; '' if it is not.

    gate: as `embedding.retrieval_gate`.
    """
    judged = next_day_retrieval(results, day)
    if judged is None or not gate:
        return ""
    ease, popularity = judged.baselines[EASE], judged.baselines[POPULARITY]
    bar = min(ease, popularity + gate * (ease - popularity))
    if judged.high >= bar:
        return ""
    return (
        f"its NDCG@20 on {judged.on} is {judged.value:.4f} [{judged.low:.4f}, {judged.high:.4f}], "
        f"below {bar:.4f}; EASE has {ease:.4f}, popularity {popularity:.4f}, "
        f"and embedding.retrieval_gate is {gate:g}"
    )


def next_day_retrieval(results: Iterable[Result], day: date) -> Result | None:
    """What the next day says of whole vectors beside both baselines; None if it is not known."""
    for result in whole(results):
        is_asked = (result.task, result.metric) == (TASK, METRIC)
        has_both = {EASE, POPULARITY} <= result.baselines.keys()
        if is_asked and has_both and result.on == day + timedelta(days=1):
            return result
    return None


def is_ahead(registry: Registry, version: Version) -> bool:
    """Would the alias move forward to this version?"""
    current = registry.aliases(version.name).get(CHAMPION)
    if current is None:
        return True
    order = [each.id for each in registry.versions(version.name)]  # as aliases move forward
    return order.index(current.id) < order.index(version.id)
