"""The plan of a day: the steps in order, what each needs, and how one is run.

A step runs when its partition is requested and missing; what it needs is computed first
(docs/decisions/0003). `jobs/steps/__init__.py` describes what a step file holds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from jobs.errors import EvergreenError, UntrustedDay
from jobs.lake.store import Partition
from jobs.pipeline.freshness import Freshness
from jobs.pipeline.tracking.runs import TrackedStep, Tracker
from jobs.settings import Settings, days_between
from jobs.sources import open_source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EMBEDDINGS = "embeddings"
RANKER = "ranker"
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


# Steps


def module(step: str) -> ModuleType:
    """The module of a step. Raises EvergreenError for an unknown name."""
    if step not in STEPS:
        raise EvergreenError(f"There is no step '{step}'. The steps are: {', '.join(STEPS)}.")
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
        part=EMBEDDINGS if step in EMBEDDING_STEPS else RANKER,
        sections=job.SETTINGS,
        facts=facts,
        last=step in (EMBEDDING_STEPS[-1], RANKER_STEPS[-1]),
    )


# Days


def first_day(settings: Settings) -> date:
    """The first day of the log."""
    return open_source(settings.source).span()[0]


def anchor_day(settings: Settings) -> date:
    """The day whose coordinates the space keeps."""
    return settings.embedding.anchor_day or first_day(settings)


def window(settings: Settings, last: date, length: int) -> list[date]:
    """The trailing `length` days up to `last`, none before the first day of the log."""
    earliest = last - timedelta(days=length - 1)
    return days_between(max(first_day(settings), earliest), last)


def trusted(settings: Settings, days: list[date]) -> list[Partition]:
    """The validated partitions among these days, without those that validation refused."""
    partitions = [settings.lake.get("validate", day) for day in days]
    return [partition for partition in partitions if partition.facts["trusted"]]


# Running


def freshness(settings: Settings) -> Freshness:
    """A look at the lake with the current settings; take a new one after a step has run."""

    def settings_digest(step: str) -> str | None:
        # An older Evergreen may have had other steps.
        return settings.digest(*module(step).SETTINGS) if step in STEPS else None

    return Freshness(settings.lake, settings_digest)


def current(settings: Settings, step: str, day: date) -> Partition | None:
    """The committed partition if it has the current settings and inputs, else None."""
    return freshness(settings).current(step, day)


def ensure(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Partition:
    """The partition of a step and day, computed with all its inputs where it is not current."""
    found = current(settings, step, day)
    if found is not None:
        return found
    try:
        return execute(settings, step, day, make_spark)
    except UntrustedDay:
        # `validate` commits its refusal: the step that reads the day decides what that means.
        verdict = current(settings, step, day)
        if verdict is None:
            raise
        return verdict


def execute(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Partition:
    """Run one step of one day, its needs first. Raises Skip where the source has nothing for it.

    make_spark: called only where the step needs Spark.
    """
    job = module(step)
    # One at a time: `needs` may be a generator that reads a partition before it names the next.
    known = freshness(settings)
    for needed, when in job.needs(settings, day):
        if known.current(needed, when) is None:
            ensure(settings, needed, when, make_spark)
            known = freshness(settings)  # what was computed may have made other partitions stale
    tracker = Tracker(settings)
    with tracker.step_run(tracked(settings, step), day) as run:
        spark = make_spark() if job.SPARK else None
        try:
            job.run(spark, settings, day)
        except UntrustedDay:
            # `validate` commits its refusal, whose figures explain it. Any other step that meets a
            # refused day commits nothing: what it has is from before.
            found = current(settings, step, day)
            if run and found and found.facts.get("trusted") is False:
                run.record_refusal(found)
            raise
        partition = settings.lake.get(step, day)
        if run:
            run.record(partition)
            if hasattr(job, "track"):
                job.track(tracker, partition)
    return partition
