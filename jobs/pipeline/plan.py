"""The plan of a day: the steps in order, what each needs, whether it is current, how it is written.

`jobs.pipeline.running` runs them; `jobs/steps/__init__.py` describes what a step file holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import date, timedelta
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jobs.errors import BadInput, EvergreenError
from jobs.lake.store import Partition, Staging
from jobs.parts import (
    ALL_STEPS,
    COLLECTING,
    EMBEDDINGS,
    LANDING,
    LEARNING_STEPS,
    RANKER,
    RANKER_STEPS,
    WORD_STEPS,
    WORDS,
    further_part,
    part_of,
)
from jobs.pipeline.freshness import Freshness, Plan
from jobs.pipeline.needs import Need, available, is_optional
from jobs.pipeline.origin import changed_texts, contradiction, log_of
from jobs.pipeline.tracking.runs import TrackedStep
from jobs.settings import Settings, days_between
from jobs.sources import open_source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RULING, RULING_RECIPE = "ruling", "by a person/1"  # see jobs.pipeline.rulings

SparkMaker = Callable[[], "SparkSession"]
Reads = Mapping[Need, Partition]  # in the order in which the step's `needs` names them
log = logging.getLogger(__name__)


# Steps


def module(step: str) -> ModuleType:
    """The module of a step. Raises EvergreenError for an unknown name."""
    if step not in ALL_STEPS:
        raise EvergreenError(f"There is no step '{step}'. The steps are: {', '.join(ALL_STEPS)}.")
    # By name, because the steps import this module.
    return import_module(f"jobs.steps.{step}")


def tracked(settings: Settings, step: str) -> TrackedStep:
    """The step as its MLflow run describes it."""
    job = module(step)
    facts = job.FACTS
    if hasattr(job, "chosen_facts"):
        facts += job.chosen_facts(settings)
    return TrackedStep(
        name=step,
        part=part_name(settings, step),
        sections=job.SETTINGS,
        facts=facts,
        last=step == part_of(step)[-1],
    )


def part_name(settings: Settings, step: str) -> str:
    """The part of the day that a step belongs to, which is also its experiment in MLflow."""
    if step in RANKER_STEPS:
        return RANKER
    if step in WORD_STEPS:
        return WORDS
    is_own = step in LEARNING_STEPS and not settings.is_first
    return further_part(settings.embedding.name) if is_own else EMBEDDINGS


# Days


def first_day(settings: Settings) -> date:
    """The first day of the log; an earlier one if it was landed before its file was moved away."""
    first = open_source(settings).span()[0]
    log = log_of(settings)
    for landed in settings.lake.days_before(LANDING, first):
        partition = settings.lake.find(LANDING, landed)
        if partition is not None and partition.log == log:
            return landed
    return first


def anchor_day(settings: Settings) -> date:
    """The first day of the first space."""
    return settings.embedding.anchor_day or first_day(settings)


def window(settings: Settings, last: date, length: int) -> list[date]:
    """The trailing `length` days up to `last`, none before the first day."""
    earliest = last - timedelta(days=length - 1)
    return days_between(max(first_day(settings), earliest), last)


def trusted(verdict: Partition | None) -> bool:
    """Did validation trust the day? verdict: of `validate`; None where it could not be computed."""
    return verdict is not None and bool(verdict.facts["trusted"])


# What is current


def recipe(settings: Settings, step: str) -> str:
    """Identity of what shapes a step's result besides its inputs: its settings and its code.

    A step raises its FORMAT when it computes something else from the same inputs. No settings
    change what a person said.
    """
    if step == RULING:
        return RULING_RECIPE
    job = module(step)
    return f"{settings.digest(*job.SETTINGS)}/{job.FORMAT}"


def needs(settings: Settings, step: str, day: date) -> Iterable[Need]:
    """The partitions that a step reads on a day, see `jobs.pipeline.needs`.

    Later ones may depend on what earlier ones hold, so each must be computed before the next is
    requested.
    """
    return [] if step == RULING else module(step).needs(settings, day)


def beside(step: str) -> tuple[str, ...]:
    """What else a step commits on a day, by name."""
    return getattr(module(step), "BESIDE", ()) if step in ALL_STEPS else ()


def freshness(settings: Settings) -> Freshness:
    """A look at the lake with the current settings; take a new one after a step has run."""
    settings = settings.looking()

    def contradicted(found: Partition) -> str:
        if found.step == COLLECTING:
            return changed_texts(settings, found)
        if found.step != LANDING:
            return ""
        try:
            return contradiction(settings, found)
        except BadInput:
            # As for a file that is gone: what cannot be read contradicts no day that was landed.
            return ""

    return Freshness(
        settings.lake,
        Plan(
            # An older Evergreen may have had other steps.
            recipe=lambda step: recipe(settings, step) if step in (*ALL_STEPS, RULING) else None,
            needs=lambda step, day: needs(settings, step, day),
            contradiction=contradicted,
            beside=beside,
        ),
    )


def current(settings: Settings, step: str, day: date) -> Partition | None:
    """The committed partition if it is current and whole, else None."""
    return freshness(settings).current(step, day)


# Writing


def reads(settings: Settings, step: str, day: date) -> Reads:
    """The partitions that a step reads on a day, whole, each under its step and day.

    An optional one is left out where it is not current. Raises NotCommitted or DamagedPartition
    for any other one.
    """
    known = freshness(settings)

    def there(need: Need) -> bool:
        return not is_optional(need) or known.current(*need) is not None

    found = {}
    for need in available(needs(settings, step, day), there):
        # Two reasons to need a partition do not make it two inputs.
        found[need] = settings.lake.get(*need)
    return found


def inputs(settings: Settings, step: str, day: date) -> list[Partition]:
    """The same as a list, for a step that can do without none of them."""
    return list(reads(settings, step, day).values())


@contextmanager
def recording(
    settings: Settings, step: str, day: date, read: Iterable[Partition], **log: Any
) -> Iterator[Staging]:
    """Write the partition of a step and day; it is committed when the block ends without error.

    read: what it is computed from, which it records as its inputs. log: for a step that reads the
    log, see `Lake.writing`.
    """
    with settings.lake.writing(
        step, day, recipe=recipe(settings, step), inputs=list(read), **log
    ) as staging:
        yield staging


def writing(
    settings: Settings, step: str, day: date, **log: Any
) -> AbstractContextManager[Staging]:
    """The same, for a step that reads what it needs and can do without none of it."""
    return recording(settings, step, day, inputs(settings, step, day), **log)
