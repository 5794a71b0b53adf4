"""promote: point the aliases in MLflow and in the registry at the gate's choice.

MLflow: `champion` at the champion's model version, `challenger` at today's. Registry: `champion`
at the version of the embedding that the champion's newest vectors come from. No alias ever moves
back to an older day. The committed partition is the receipt.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import writing
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION
from jobs.steps.examples import published_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = chain.SETTINGS
FORMAT = 1
SPARK = False
FACTS = (
    Fact("champion", "training day of the model that the alias 'champion' follows; empty for none"),
    Fact("challenger", "training day of the model that the alias 'challenger' follows"),
    Fact("embedding", "version of the embedding that the registry's 'champion' follows"),
    Fact("why", "the gate's reason"),
)


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The day's model and decision, and the champion's model."""
    yield ("train", day)
    yield ("gate", day)
    champion = settings.lake.get("gate", day).facts["champion_after"]
    if champion:
        yield ("train", date.fromisoformat(champion))


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Set the aliases, then commit the receipt.

    Setting an alias twice changes nothing, so a retry after a kill in between is safe.
    """
    gate = settings.lake.get("gate", day)
    challenger = settings.lake.get("train", day)
    champion = champion_of(settings, gate)
    version_id = champion.facts["embedding"] if champion else ""
    with writing(settings, "promote", day) as staging:
        # A runner that was thought dead must not move them after its successor.
        with staging.fenced():
            set_aliases(settings, champion, challenger, version_id)
        # Last: a receipt states that the aliases are set.
        staging.facts |= {
            "champion": gate.facts["champion_after"],
            "challenger": str(challenger.day),
            "embedding": version_id,
            "why": gate.facts["why"],
        }


def set_aliases(
    settings: Settings, champion: Partition | None, challenger: Partition, version_id: str
) -> None:
    """Point the aliases at the models, and at the version of the champion's vectors.

    version_id: empty if the champion was trained before the first version was published.
    """
    if version_id:
        version = published_version(settings, version_id)
        settings.open_registry().set_alias(version.name, CHAMPION, version, only_forward=True)
    tracker = Tracker(settings)
    if tracker.enabled:
        models = ModelRegistry(tracker)
        if champion is not None:
            models.set_alias(CHAMPION, champion)
        models.set_alias(CHALLENGER, challenger)


def champion_of(settings: Settings, gate: Partition) -> Partition | None:
    """The partition of `train` that is champion after the gate's day; None without a champion."""
    champion = gate.facts["champion_after"]
    if not champion:
        return None
    return settings.lake.get("train", date.fromisoformat(champion))
