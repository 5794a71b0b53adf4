"""The steps, their order, and what each needs: a step is run when its partition is asked for and is not there.

Every step file has
    SETTINGS   the sections of the settings that shape its result
    needs(settings, day)         the (step, day) pairs whose partitions it reads
    run(spark, settings, day)    writes its own partition; raises Skip where there is nothing to do
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from jobs.errors import EvergreenError, Skip, UntrustedDay
from jobs.lake.store import Partition
from jobs.pipeline.tracking import step_run
from jobs.settings import Settings, days_between
from jobs.sources import open_source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EMBEDDING_STEPS = (
    "land",
    "validate",
    "matrix",
    "embed",
    "align",
    "fold_in",
    "lookalike",
    "publish",
)
RANKER_STEPS = ("examples", "evaluate", "train", "gate", "promote")
STEPS = EMBEDDING_STEPS + RANKER_STEPS

SparkMaker = Callable[[], "SparkSession"]


def module(step: str) -> ModuleType:
    if step not in STEPS:
        raise EvergreenError(f"There is no step '{step}'. The steps are: {', '.join(STEPS)}.")
    return import_module(f"jobs.steps.{step}")


def first_day(settings: Settings) -> date:
    """The first day of the log."""
    return open_source(settings).span()[0]


def anchor_day(settings: Settings) -> date:
    """The day whose coordinates the space keeps."""
    return settings.embedding.anchor_day or first_day(settings)


def window(settings: Settings, last: date, length: int) -> list[date]:
    """The trailing `length` days up to `last`, from the first day of the log on."""
    return days_between(max(first_day(settings), last - timedelta(days=length - 1)), last)


def current(settings: Settings, step: str, day: date) -> Partition | None:
    """The committed partition, if it was made with the settings of now."""
    found = settings.lake.find(step, day)
    return found if found and found.settings == settings.digest(*module(step).SETTINGS) else None


def ensure(settings: Settings, step: str, day: date, spark: SparkMaker) -> Partition:
    """The partition of a step and day, computed first (with all that it needs) where it is missing."""
    if (found := current(settings, step, day)) is not None:
        return found
    try:
        return execute(settings, step, day, spark)
    except UntrustedDay:
        if (verdict := current(settings, step, day)) is None:
            raise
        return (
            verdict  # `validate` commits its refusal: whoever reads the day decides what that means
        )


def execute(settings: Settings, step: str, day: date, spark: SparkMaker) -> Partition:
    """Run one step of one day, its needs first. Raises Skip where the source has nothing for it."""
    job = module(step)
    for needed, when in job.needs(settings, day):
        ensure(settings, needed, when, spark)
    with step_run(settings, step, day) as record:
        job.run(spark(), settings, day)
        partition = settings.lake.get(step, day)
        record(partition)
    return partition


def trusted(settings: Settings, days: list[date]) -> list[Partition]:
    """The validated partitions among these days; a day that validation refused is left out."""
    found = [settings.lake.get("validate", day) for day in days]
    return [partition for partition in found if partition.facts["trusted"]]


__all__ = [
    "EMBEDDING_STEPS",
    "RANKER_STEPS",
    "STEPS",
    "Skip",
    "anchor_day",
    "current",
    "ensure",
    "execute",
    "trusted",
    "window",
]
