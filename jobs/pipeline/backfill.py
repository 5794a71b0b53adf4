"""What a backfill would run and what it would reuse, day by day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from jobs.errors import EvergreenError
from jobs.parts import LEARNING_STEPS, STEPS
from jobs.pipeline import chain
from jobs.pipeline.plan import freshness
from jobs.pipeline.status import PARTS, counted, day_state, known_days
from jobs.settings import Settings, days_between
from jobs.sources import reopen_sources


@dataclass(frozen=True)
class DayPlan:
    """to_run: the steps of a day that would run. reused: those that are current. why: the reason
    for the first one to run. refused: the day is not trusted, and nothing is computed from it.
    """

    day: date
    to_run: list[str]
    reused: list[str]
    why: str
    refused: bool


def days_of(
    settings: Settings, first: date | None, last: date | None, changed: bool
) -> list[DayPlan]:
    """The plan of every day from first to last; where these are None, of every known day.

    changed: leave out the days of which everything is current. Raises EvergreenError for days
    beyond the log.
    """
    reopen_sources()
    known = known_days(settings)
    first, last = first or known[0], last or known[-1]
    if not known[0] <= first <= last <= known[-1]:
        raise EvergreenError(
            f"{first} to {last} is not a range of days of the log, which runs from {known[0]} to "
            f"{known[-1]}. Choose days within it, or add the files of the others."
        )
    look = freshness(settings)
    further = [settings.of_embedding(name) for name in settings.further]
    looks = [(own.lake, freshness(own)) for own in further]
    start = chain.start_day(settings)
    plans = []
    for day in days_between(first, last):
        parts = [part for part in PARTS if part != "ranker" or (start and day >= start)]
        states = [day_state(look, part, day) for part in parts]
        to_run = [step for state in states for step in state.to_run]
        reused = [step for step in STEPS if step not in to_run and look.current(step, day)]
        for lake, own_look in looks:
            states.append(day_state(own_look, "embeddings", day))
            to_run += [lake.folder(s) for s in states[-1].to_run if s in LEARNING_STEPS]
            reused += [lake.folder(s) for s in LEARNING_STEPS if own_look.current(s, day)]
        why = next((state.why for state in states if state.why), "")
        # The first part is the data: a day that it refuses, no other part has.
        plans.append(DayPlan(day, to_run, reused, why, refused=states[0].refused))
    return [plan for plan in plans if plan.to_run or not changed]


def lines(plans: list[DayPlan]) -> Iterator[str]:
    """The plan for a terminal, a line per day."""
    for plan in plans:
        if plan.refused:
            yield f"{plan.day}  refused by validation: nothing to run until its input is corrected"
        elif not plan.to_run:
            yield f"{plan.day}  all {len(plan.reused)} steps are current"
        else:
            counts = f"run {len(plan.to_run)}, reuse {len(plan.reused)}"
            yield f"{plan.day}  {counts}, from {plan.to_run[0]} on: {plan.why}"
    total = sum(len(plan.to_run) for plan in plans)
    steps, days = counted(total, "step"), counted(len(plans), "day")
    yield f"{steps} of {days} to run at most: what turns out the same is reused"
