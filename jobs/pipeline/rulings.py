"""A person's word on which ranker serves. On its day, it takes the place of the gate's decision.

A ruling is the partition `ruling/day=D`, which no step computes: the gate of D reads it where it is
there, and the days after D go on from the ruled champion. It is the newest decided day that is
ruled on, never an older one, so no decision that others were built on changes.

    facts               champion, why, by
    calibration.json    the champion's, as fitted on the newest day that it was tested on
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from embeddings.registry.aliases import Why
from embeddings.registry.errors import BadRequest
from jobs.errors import EvergreenError
from jobs.judging.calibration import calibration_file
from jobs.lake.store import Partition
from jobs.pipeline import chain, guardrails
from jobs.pipeline.plan import RULING, RULING_RECIPE, module
from jobs.settings import Settings
from jobs.terminal import visible
from models.calibration import FILE

if TYPE_CHECKING:
    from rich.table import Table

GATE, TRAIN, EVALUATE = "gate", "train", "evaluate"  # the steps


def newest_decision(settings: Settings) -> Partition:
    """The gate's partition of the newest decided day. Raises EvergreenError without one."""
    days = settings.lake.days(GATE)
    if not days:
        raise EvergreenError(
            "No day has been decided yet: there is no champion to replace. "
            "Run the ranker's days first, as in: evergreen run --from D --to D"
        )
    return settings.lake.get(GATE, days[-1])


def decisions(settings: Settings) -> list[Partition]:
    """The gate's partition of every decided day, ascending."""
    found = [settings.lake.find(GATE, day) for day in settings.lake.days(GATE)]
    return [decision for decision in found if decision is not None]


def table(made: list[Partition]) -> Table:
    """The decisions for a terminal, a row per day."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table("day", "serves", "challenger", "its AUC less the champion's", "guardrails", "why")
    for decision in made:
        facts = decision.facts
        difference = "–"
        if "difference_low" in facts:
            interval = f"[{facts['difference_low']:+.4f}, {facts['difference_high']:+.4f}]"
            difference = rf"{facts['difference']:+.4f} \{interval}"
        names = [facts["champion_after"] or "–", facts["challenger"] or "–"]
        judged = "hold" if guardrails.shown(facts) else "–"
        judged = ", ".join(guardrails.broken(facts)) or judged
        shown.add_row(str(decision.day), *names, difference, judged, escape(visible(facts["why"])))
    return shown


def previous_champion(settings: Settings) -> date:
    """The champion before the one that serves now. Raises EvergreenError where there was none."""
    serving = newest_decision(settings).facts["champion_after"]
    for day in reversed(settings.lake.days(GATE)):
        decision = settings.lake.find(GATE, day)
        before = decision.facts["champion_before"] if decision else ""
        if before and before != serving:
            return date.fromisoformat(before)
    raise EvergreenError(
        f"No other model has served before that of {serving or 'the first day'}: there is nothing "
        "to roll back to. Name a model: evergreen ranker promote DAY"
    )


def rule(settings: Settings, champion: date, reason: str = "", by: str = "") -> Partition:
    """Commit that the model trained up to `champion` serves from the newest decided day on.

    reason: one line. by: who says so; empty for the user whom the operating system names. The gate
    of that day is then no longer current. Raises EvergreenError for a model that is missing or has
    met no day yet, or for a text that is no short line.
    """
    decision = newest_decision(settings)
    trained = days_with_models(settings)
    if champion >= decision.day or champion not in trained:
        earlier = [str(day) for day in trained if day < decision.day]
        raise EvergreenError(
            f"There is no model of {champion} that was tested by {decision.day}. "
            f"Choose one of: {', '.join(earlier) or 'none yet'}."
        )
    try:
        said = Why.of(reason, by)
    except BadRequest as error:
        raise EvergreenError(str(error)) from None
    with settings.lake.writing(RULING, decision.day, recipe=RULING_RECIPE) as staging:
        staging.facts |= {"champion": str(champion), "why": said.reason, "by": said.by}
        if calibration := newest_calibration(settings, champion):
            (staging.path / FILE).write_text(calibration)
    return settings.lake.get(RULING, decision.day)


def days_with_models(settings: Settings) -> list[date]:
    """The days that have trained a ranker, ascending."""
    found = [settings.lake.find(TRAIN, day) for day in settings.lake.days(TRAIN)]
    return [trained.day for trained in found if trained is not None and chain.has_model(trained)]


def newest_calibration(settings: Settings, champion: date) -> str:
    """The calibration of a model by the newest test of it, as JSON; empty without one."""
    evaluate = module(EVALUATE)
    for day in reversed(settings.lake.days(EVALUATE)):
        test = settings.lake.find(EVALUATE, day)
        for role in (evaluate.CHALLENGER, evaluate.CHAMPION):
            if test is not None and test.facts.get(role) == str(champion):
                return (test.path / calibration_file(role)).read_text()
    return ""
