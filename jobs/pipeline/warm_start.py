"""What a training goes on from: `ranker.warm_start`.

The model of the newest day before this one that has one, within the window. The training then reads
only the days after it. Where there is none, or where it reads other features or vectors of another
space, the ranker is trained anew on the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import Reads, module
from jobs.settings import Settings

if TYPE_CHECKING:
    from models.start import Start

FACTS = (
    Fact("started_from", "training day of the model that this one went on from; none: anew"),
    Fact("started_anew", "why it went on from no older model"),
    Fact("features", "digest of the list of the features that it reads"),
)


@dataclass(frozen=True)
class Beginning:
    """model: the partition of `train` to go on from; None where it is trained anew, and why."""

    model: Partition | None = None
    why: str = ""

    def days(self, window: list[date]) -> list[date]:
        """The days of a window that are trained on."""
        if self.model is None:
            return window
        return [day for day in window if day > self.model.day]

    def facts(self, examples: Partition) -> dict[str, str]:
        """examples: of the day."""
        features = {"features": features_of(examples)}
        if self.model is None:
            return features | {"started_from": "none", "started_anew": self.why}
        return features | {"started_from": str(self.model.day)}


NO_MODEL = Beginning(why="no day of the window before has a model")


def needs_to_begin(settings: Settings, day: date, window: list[date]) -> Needs[Beginning]:
    """The examples of the day, and the newest model before it.

    A day that trained none, or could not be trained, is passed over. window: the days up to `day`.
    """
    yield ("validate", day)
    if not chain.rankable(settings.lake.get("validate", day)):
        return NO_MODEL
    yield ("examples", day)
    for earlier in reversed(window[:-1]):
        there = yield optional("validate", earlier)
        if not there or not chain.rankable(settings.lake.get("validate", earlier)):
            continue
        if (yield optional("train", earlier)):
            trained = settings.lake.get("train", earlier)
            if chain.has_model(trained):
                return judged(trained, settings.lake.get("examples", day))
    return NO_MODEL


def beginning(read: Reads, day: date, window: list[date]) -> Beginning:
    """The same, of what `needs_to_begin` has named, among others."""
    examples = read.get(("examples", day))
    if examples is None:
        return NO_MODEL
    for earlier in reversed(window[:-1]):
        trained = read.get(("train", earlier))
        if trained is not None and chain.has_model(trained):
            return judged(trained, examples)
    return NO_MODEL


def judged(trained: Partition, examples: Partition) -> Beginning:
    """That model, if it fits these examples."""
    if trained.facts["features"] != features_of(examples):
        return Beginning(
            why=f"the model of {trained.day} reads other features than {examples.day} has"
        )
    before, now = trained.facts["space"], examples.facts["space"]
    if before and now and before != now:
        return Beginning(
            why=f"the model of {trained.day} reads vectors of space '{before}', those of "
            f"{examples.day} are in space '{now}'"
        )
    return Beginning(trained)


def features_of(examples: Partition) -> str:
    """What tells features apart, without reading them."""
    return examples.files[module("examples").SPEC]


def start_of(settings: Settings, begun: Beginning, day: date) -> Start | None:
    """The model to go on from, read from its partition; None without one."""
    from models.admission import Seen
    from models.start import Start
    from models.store import load

    if begun.model is None:
        return None
    ranker = settings.ranker
    saved = load(begun.model.path)
    seen = Seen.load(begun.model.path, saved.model.spec) if ranker.admit_after else None
    return Start(
        saved.model,
        saved.space,
        days=(day - begun.model.day).days,
        seen=seen,
        evict_after_days=ranker.evict_after_days or ranker.window_days,
    )
