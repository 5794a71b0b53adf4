"""Is today's training worth it? `ranker.retrain` says "daily", or "when it pays".

In the second case every partition of `train` carries what rankers have lost by their age until
then: each time that a champion met a challenger trained some days later, the difference of their
AUC. A day on which the loss that is expected of one more day without a training is below
`ranker.retrain_delta` trains none: its partition says why, and has no model. The rule is
`models.retraining`; docs/decay.md replays it.

losses.json    [{"day": the day of the test, "age": days, "loss": AUC}, …], oldest first
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np

from embeddings.facts import Fact
from jobs.lake.store import Partition, Staging
from jobs.pipeline import chain
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import Reads
from jobs.settings import Settings
from models.retraining import expected_loss, pays

LOSSES = "losses.json"
KEPT = 60  # of the newest losses: an age that was seen long ago is tried again
WHEN_IT_PAYS = "when it pays"
FACTS = (
    Fact("skipped", "why no model was trained on the day"),
    Fact("newest_model", "training day of the newest model, of this day or an earlier one"),
    Fact("expected_loss", "loss that was expected of the day without a training", "AUC", "lower"),
)


@dataclass(frozen=True)
class Loss:
    """What a ranker lacked to one that was trained `age` days later, on the rows of `day`."""

    day: str
    age: int
    loss: float


@dataclass(frozen=True)
class Outlook:
    """What is expected of a day without a training.

    newest: training day of the newest model before it; None where none is known, or every day is
    trained. expected: loss of AUC; None where no ranker has been that old. losses: what was seen so
    far; None where every day is trained, and nothing is recorded.
    """

    day: date
    delta: float
    newest: date | None = None
    expected: float | None = None
    losses: list[Loss] | None = None

    @property
    def pays(self) -> bool:
        """Is a training worth it?"""
        return self.newest is None or pays(self.expected, self.delta)

    @property
    def why(self) -> str:
        """Why none is trained."""
        assert self.newest is not None, "without a model, a training always pays"
        age = (self.day - self.newest).days
        seen = sum(loss.age == age for loss in self.losses or [])
        days = "a day" if age == 1 else f"{age} days"
        return (
            f"The model of {self.newest} does once more: rankers {days} older have lost "
            f"{self.expected:.4f} of AUC on average ({seen} so far), less than "
            f"ranker.retrain_delta, {self.delta:g}."
        )

    def record(self, staging: Staging) -> None:
        """Add to the day's partition what the next trainings and a person need to know."""
        if self.losses is None:
            return
        save_losses(staging.path, self.losses)
        if self.expected is not None:
            staging.facts["expected_loss"] = self.expected
        if self.pays:
            staging.facts["newest_model"] = str(self.day)
        else:
            staging.facts |= {"newest_model": str(self.newest), "skipped": self.why}


def needs_to_decide(settings: Settings, day: date) -> Needs[None]:
    """The previous decision and the training of its day; nothing where every day is trained."""
    if settings.ranker.retrain == WHEN_IT_PAYS:
        decision = yield from chain.needs_of_previous(settings, day)
        if decision is not None:
            yield optional("train", decision.day)


def outlook(settings: Settings, read: Reads, day: date) -> Outlook:
    """What is expected of the day. read: what `needs_to_decide` has named, among others."""
    delta = settings.ranker.retrain_delta
    if settings.ranker.retrain != WHEN_IT_PAYS:
        return Outlook(day, delta)
    decision = chain.previous(read)
    trained = read.get(("train", decision.day)) if decision else None
    if decision is None or trained is None:
        return Outlook(day, delta, losses=[])
    losses = losses_until(decision, trained)
    newest = date.fromisoformat(trained.facts["newest_model"])
    expected = expected_loss(by_age(losses), (day - newest).days)
    return Outlook(day, delta, newest, expected, losses)


def losses_until(decision: Partition, trained: Partition) -> list[Loss]:
    """The losses that the day's training knew of, and the one that its decision has shown."""
    losses = [Loss(**fields) for fields in json.loads((trained.path / LOSSES).read_text())]
    champion, challenger = decision.facts["champion_before"], decision.facts["challenger"]
    difference = decision.facts.get("difference", np.nan)
    if champion and challenger and np.isfinite(difference):
        age = (date.fromisoformat(challenger) - date.fromisoformat(champion)).days
        losses.append(Loss(str(decision.day), age, float(difference)))
    return losses[-KEPT:]


def by_age(losses: list[Loss]) -> dict[int, list[float]]:
    """The losses of every age."""
    found: dict[int, list[float]] = {}
    for loss in losses:
        found.setdefault(loss.age, []).append(loss.loss)
    return found


def save_losses(folder: Path, losses: list[Loss]) -> None:
    """Write them for the trainings of later days."""
    text = json.dumps([asdict(loss) for loss in losses], indent=1)
    (folder / LOSSES).write_text(text + "\n")
