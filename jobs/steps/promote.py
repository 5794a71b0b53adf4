"""promote: point the aliases at what the gate decided, in MLflow and in the registry; never back to an older day.

MLflow: `champion` at the champion's model version, `challenger` at today's. Registry: `champion` at the version of the
embedding that the champion's newest vectors come from. The committed partition is the receipt.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from jobs.lake.store import Partition
from jobs.pipeline.chain import SETTINGS
from jobs.settings import Settings
from jobs.steps.examples import published_version
from jobs.steps.publish import open_registry

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHAMPION, CHALLENGER = "champion", "challenger"


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    yield ("train", day)
    yield ("gate", day)
    if champion := settings.lake.get("gate", day).facts["champion_after"]:
        yield ("train", date.fromisoformat(champion))


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Set the aliases, then write the receipt: a retry after a kill in between sets the same again."""
    from jobs.pipeline import tracking

    gate, challenger = settings.lake.get("gate", day), settings.lake.get("train", day)
    champion = champion_of(settings, gate)
    version = champion.facts["embedding"] if champion else ""
    if version:
        found = published_version(settings, version)
        open_registry(settings).set_alias(found.name, CHAMPION, found, only_forward=True)
    if tracking.enabled(settings):
        for alias, model in ((CHAMPION, champion), (CHALLENGER, challenger)):
            if model:
                tracking.set_alias(settings, alias, model)
    inputs = [gate, challenger, *([champion] if champion else [])]
    with settings.lake.writing(
        "promote", day, settings=settings.digest(*SETTINGS), inputs=inputs
    ) as staging:
        staging.facts |= {
            "champion": gate.facts["champion_after"],
            "challenger": str(challenger.day),
            "embedding": version,
            "why": gate.facts["why"],
        }


def champion_of(settings: Settings, gate: Partition) -> Partition | None:
    """The partition of `train` that is champion after the gate's day."""
    champion = gate.facts["champion_after"]
    return settings.lake.get("train", date.fromisoformat(champion)) if champion else None
