"""promote: point the aliases in MLflow and in the registry at the gate's choice.

MLflow: `champion` at the champion's model version, `challenger` at today's. Registry: `champion`
at the version of the embedding that the champion's newest vectors come from. No alias ever moves
back to an older day. Where the champion's model is missing, `champion` stays where it is. The
committed partition is the receipt.

calibration.json    what makes the champion's probabilities rates, as fitted on the day's test of
                    it; also a tag of its version in MLflow
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from embeddings.registry.aliases import REASON_LENGTH
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import reads, recording
from jobs.pipeline.published import published_version
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION, calibration_of
from models.calibration import FILE, UNCALIBRATED, Calibration

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = chain.SETTINGS
FORMAT = 2
SPARK = False
FACTS = (
    Fact("champion", "training day of the model that the alias 'champion' follows; empty for none"),
    Fact("challenger", "training day of the model that the alias 'challenger' follows"),
    Fact("embedding", "version of the embedding that the registry's 'champion' follows"),
    Fact("calibrated", "labels whose probabilities the champion's calibration changes"),
    Fact("why", "the gate's reason"),
)


def needs(settings: Settings, day: date) -> Needs[None]:
    """The day's model, test and decision, and the champion's model."""
    yield ("train", day)
    yield ("evaluate", day)
    yield ("gate", day)
    champion = champion_after(settings.lake.get("gate", day))
    if champion:
        yield optional("train", champion)


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Set the aliases, then commit the receipt.

    Setting an alias twice changes nothing, so a retry after a kill in between is safe.
    """
    read = reads(settings, "promote", day)
    gate = read["gate", day]
    challenger = read["train", day]
    trained = champion_after(gate)
    champion = read.get(("train", trained)) if trained else None
    version_id = champion.facts["embedding"] if champion else ""
    calibration = champions_calibration(read["evaluate", day], gate)
    with recording(settings, "promote", day, read.values()) as staging:
        (staging.path / FILE).write_text(calibration.to_json() + "\n")
        # A runner that was thought dead must not move them after its successor.
        with staging.fenced():
            set_aliases(settings, champion, challenger, version_id, gate.facts["why"], calibration)
        # Last: a receipt states that the aliases are set.
        staging.facts |= {
            "champion": gate.facts["champion_after"],
            "challenger": str(challenger.day),
            "embedding": version_id,
            "calibrated": ", ".join(sorted(calibration.maps)) or "none",
            "why": gate.facts["why"],
        }


def set_aliases(
    settings: Settings,
    champion: Partition | None,
    challenger: Partition,
    version_id: str,
    why: str,
    calibration: Calibration,
) -> None:
    """Point the aliases at the models, and at the version of the champion's vectors.

    champion: None where there is none, or its model is missing. version_id: empty if the champion
    was trained before the first version was published. why: the gate's reason, kept in the
    history of the registry's alias. calibration: the champion's.
    """
    if version_id:
        version = published_version(settings, version_id)
        settings.open_registry().set_alias(
            version.name,
            CHAMPION,
            version,
            only_forward=True,
            reason=" ".join(why.split())[:REASON_LENGTH],
            by="promote",
        )
    tracker = Tracker(settings)
    if tracker.enabled:
        models = ModelRegistry(tracker)
        if champion is not None:
            models.set_alias(CHAMPION, champion)
            models.set_calibration(champion, calibration)
        models.set_alias(CHALLENGER, challenger)


def champions_calibration(test: Partition, gate: Partition) -> Calibration:
    """The calibration of the champion from now on, by the day's test of it; none without a test."""
    champion = gate.facts["champion_after"]
    for role in (CHALLENGER, CHAMPION):
        if champion and test.facts.get(role) == champion:
            return calibration_of(test, role)
    return UNCALIBRATED


def champion_after(gate: Partition) -> date | None:
    """Training day of the champion after the gate's day; None without a champion."""
    champion = gate.facts["champion_after"]
    return date.fromisoformat(champion) if champion else None
