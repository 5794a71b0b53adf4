"""promote: point the aliases in MLflow and in the registry at the gate's choice.

MLflow: `champion` at the champion's model version, `challenger` at today's. Registry: `champion`
at the version of the embedding that the champion's newest vectors come from. No alias ever moves
back to an older day, unless a person has decided so on the newest day (jobs.pipeline.rulings).
Where the champion's model is missing, `champion` stays where it is; in the registry also where the
version retrieves too little beside EASE (jobs.pipeline.embedding_gate), unless a person has
decided. The committed partition is the receipt.

calibration.json    what makes the champion's probabilities rates, as fitted on the day's test of
                    it; also a tag of its version in MLflow
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.judging.calibration import calibration_of
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.embedding_gate import promote_version
from jobs.pipeline.needs import Needs, if_there, optional
from jobs.pipeline.plan import RULING, Reads, reads, recording
from jobs.pipeline.published import published_version
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION
from models.calibration import FILE, UNCALIBRATED, Calibration

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = chain.SETTINGS
FORMAT = 3
SPARK = False
FACTS = (
    Fact("champion", "training day of the model that the alias 'champion' follows; empty for none"),
    Fact("challenger", "the day, if it has a model, which the alias 'challenger' then follows"),
    Fact("embedding", "version of the embedding that the champion's newest vectors come from"),
    Fact("held_back", "why the registry's 'champion' does not follow it; empty where it does"),
    Fact("calibrated", "labels whose probabilities the champion's calibration changes"),
    Fact("why", "the gate's reason"),
)


def needs(settings: Settings, day: date) -> Needs[None]:
    """The day's model, test and decision, and the champion's model.

    Where the champion could not be tested on the day, also the promotion before: it has the
    calibration.
    """
    yield ("train", day)
    yield ("evaluate", day)
    yield ("gate", day)
    gate = settings.lake.get("gate", day)
    champion = champion_after(gate)
    if champion:
        yield optional("train", champion)
        if not tested_as(settings.lake.get("evaluate", day), champion):
            decision = yield from chain.needs_of_previous(settings, day)
            if decision is not None:
                yield optional("promote", decision.day)
    yield if_there(RULING, day)


@dataclass(frozen=True)
class Choice:
    """Who serves from a day on.

    champion: None where there is none, or its model is missing. challenger: None where the day did
    without a training. embedding: the version of its newest vectors; empty where it was trained
    before the first version was published. why, by: for the history of the registry's alias.
    by_person: whether a person has decided. back: whether the aliases may move to an older day.
    """

    champion: Partition | None
    challenger: Partition | None
    embedding: str
    calibration: Calibration
    why: str
    by: str
    by_person: bool
    back: bool


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Set the aliases, then commit the receipt.

    Setting an alias twice changes nothing, so a retry after a kill in between is safe.
    """
    read = reads(settings, "promote", day)
    gate = read["gate", day]
    choice = choice_of(settings, read, day)
    with recording(settings, "promote", day, read.values()) as staging:
        (staging.path / FILE).write_text(choice.calibration.to_json() + "\n")
        # A runner that was thought dead must not move them after its successor.
        with staging.fenced():
            held_back = set_aliases(settings, choice)
        # Last: a receipt states that the aliases are set.
        staging.facts |= {
            "champion": gate.facts["champion_after"],
            "challenger": str(choice.challenger.day) if choice.challenger else "",
            "embedding": choice.embedding,
            "held_back": held_back,
            "calibrated": ", ".join(sorted(choice.calibration.maps)) or "none",
            "why": gate.facts["why"],
        }


def choice_of(settings: Settings, read: Reads, day: date) -> Choice:
    """The gate's choice, with all that belongs to it."""
    gate = read["gate", day]
    trained = champion_after(gate)
    champion = read.get(("train", trained)) if trained else None
    ruling = read.get((RULING, day))
    # Run again later, a day that was ruled on leaves the aliases to the days after it.
    is_newest = day >= max(settings.lake.days("gate"))
    return Choice(
        champion=champion,
        challenger=read["train", day] if chain.has_model(read["train", day]) else None,
        embedding=champion.facts["embedding"] if champion else "",
        calibration=champions_calibration(read, day),
        why=gate.facts["why"],
        by=ruling.facts["by"] if ruling else "promote",
        by_person=ruling is not None,
        back=ruling is not None and is_newest,
    )


def set_aliases(settings: Settings, choice: Choice) -> str:
    """Point the aliases at the models, and at the version of the champion's vectors.

    Returns why this version is held back, or ''.
    """
    only_forward = not choice.back
    held_back = ""
    if choice.embedding:
        version = published_version(settings, choice.embedding)
        held_back = promote_version(
            settings, version, choice.why, choice.by, only_forward, choice.by_person
        )
    tracker = Tracker(settings)
    if tracker.enabled:
        models = ModelRegistry(tracker)
        if choice.champion is not None:
            models.set_alias(CHAMPION, choice.champion, only_forward)
            models.set_calibration(choice.champion, choice.calibration)
        if choice.challenger is not None:
            models.set_alias(CHALLENGER, choice.challenger)
    return held_back


def champions_calibration(read: Reads, day: date) -> Calibration:
    """The calibration of the champion from now on: by its test on the day, a person, or before."""
    test, gate, ruling = read["evaluate", day], read["gate", day], read.get((RULING, day))
    champion = champion_after(gate)
    if champion is None:
        return UNCALIBRATED
    if role := tested_as(test, champion):
        return calibration_of(test, role)
    earlier = [partition for (step, _), partition in read.items() if step == "promote"]
    same = [receipt for receipt in earlier if receipt.facts["champion"] == str(champion)]
    for partition in [ruling] if ruling is not None else same:
        if (partition.path / FILE).exists():
            return Calibration.from_json((partition.path / FILE).read_text())
    return UNCALIBRATED


def tested_as(test: Partition, trained: date) -> str:
    """The role in which a model was tested on a day; '' where it was not."""
    for role in (CHALLENGER, CHAMPION):
        if test.facts.get(role) == str(trained):
            return role
    return ""


def champion_after(gate: Partition) -> date | None:
    """Training day of the champion after the gate's day; None without a champion."""
    champion = gate.facts["champion_after"]
    return date.fromisoformat(champion) if champion else None
