"""The plan of a day: the steps in order, what each needs, and how one is run.

A step runs when its partition is requested and not current; what it needs is computed first
(docs/decisions/0003). `jobs/steps/__init__.py` describes what a step file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from embeddings.facts import headlines
from jobs.errors import EvergreenError, UntrustedDay
from jobs.lake.store import Partition, Staging
from jobs.pipeline.failures import failures_explained
from jobs.pipeline.freshness import Freshness, Plan
from jobs.pipeline.origin import contradiction, log_of
from jobs.pipeline.tracking.runs import TrackedStep, Tracker
from jobs.settings import Settings, days_between
from jobs.sources import open_source, reopen_sources

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
LANDING = EMBEDDING_STEPS[0]  # the step that reads the log

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
    """The first day of the log; an earlier one if it was landed before its file was moved away."""
    first = open_source(settings.source).span()[0]
    log = log_of(settings)
    for landed in settings.lake.days(LANDING):
        if landed >= first:
            break
        partition = settings.lake.find(LANDING, landed)
        if partition is not None and partition.log == log:
            return landed
    return first


def anchor_day(settings: Settings) -> date:
    """The day whose coordinates the space keeps."""
    return settings.embedding.anchor_day or first_day(settings)


def window(settings: Settings, last: date, length: int) -> list[date]:
    """The trailing `length` days up to `last`, none before the first day."""
    earliest = last - timedelta(days=length - 1)
    return days_between(max(first_day(settings), earliest), last)


def trusted(settings: Settings, days: list[date]) -> list[Partition]:
    """The validated partitions among these days, without those that validation refused."""
    partitions = [settings.lake.get("validate", day) for day in days]
    return [partition for partition in partitions if partition.facts["trusted"]]


# What is current


def recipe(settings: Settings, step: str) -> str:
    """Identity of what shapes a step's result besides its inputs: its settings and its code.

    A step raises its FORMAT when it computes something else from the same inputs.
    """
    job = module(step)
    return f"{settings.digest(*job.SETTINGS)}/{job.FORMAT}"


def needs(settings: Settings, step: str, day: date) -> Iterable[tuple[str, date]]:
    """The partitions that a step reads on a day. Later ones may depend on what earlier ones hold,
    so each must be computed before the next is requested.
    """
    return module(step).needs(settings, day)


def freshness(settings: Settings) -> Freshness:
    """A look at the lake with the current settings; take a new one after a step has run."""

    def contradicted(found: Partition) -> str:
        return contradiction(settings, found) if found.step == LANDING else ""

    return Freshness(
        settings.lake,
        Plan(
            # An older Evergreen may have had other steps.
            recipe=lambda step: recipe(settings, step) if step in STEPS else None,
            needs=lambda step, day: needs(settings, step, day),
            contradiction=contradicted,
        ),
    )


def current(settings: Settings, step: str, day: date) -> Partition | None:
    """The committed partition if it is current and whole, else None."""
    return freshness(settings).current(step, day)


# Writing


def inputs(settings: Settings, step: str, day: date) -> list[Partition]:
    """The partitions that a step needs on a day, whole. Raises NotCommitted, DamagedPartition."""
    # Two reasons to need a partition do not make it two inputs.
    named = dict.fromkeys(needs(settings, step, day))
    return [settings.lake.get(*needed) for needed in named]


@contextmanager
def writing(settings: Settings, step: str, day: date, **log: Any) -> Iterator[Staging]:
    """Write the partition of a step and day; it is committed when the block ends without error.

    It records what the step needs as its inputs. log: for a step that reads the log, see
    `Lake.writing`.
    """
    recorded = inputs(settings, step, day)
    with settings.lake.writing(
        step, day, recipe=recipe(settings, step), inputs=recorded, **log
    ) as staging:
        yield staging


# Running


@dataclass(frozen=True)
class Result:
    """The partition of a step and day. reused: it was current, and nothing was computed."""

    partition: Partition
    reused: bool


def ensure(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Result:
    """The partition of a step and day, computed with all its inputs where it is not current.

    The refusal of a day is a result of `validate`, too. Raises Skip where the source has nothing
    for the step. make_spark: called only where a step needs Spark.
    """
    reopen_sources()
    found = current(settings, step, day)
    if found is None:
        prepare(settings, step, day, make_spark)
        found = compute_or_refuse(settings, step, day, make_spark)
        if step == part_of(step)[-1]:
            close_part(settings, step, day)
        return Result(found, reused=False)
    record_again(settings, found)
    return Result(found, reused=True)


def record_again(settings: Settings, partition: Partition) -> None:
    """Record a current partition in MLflow where a kill or a failure has prevented that."""
    tracker = Tracker(settings)
    step = tracked(settings, partition.step)
    if not tracker.recorded(step, partition):
        job = module(partition.step)
        with tracker.step_run(step, partition.day, computes=False) as run:
            if run:
                run.record(partition)
                if hasattr(job, "track"):
                    job.track(tracker, partition)
    if step.last:
        close_part(settings, partition.step, partition.day)


def part_of(step: str) -> tuple[str, ...]:
    """The steps of the part of the day that a step belongs to."""
    return EMBEDDING_STEPS if step in EMBEDDING_STEPS else RANKER_STEPS


def close_part(settings: Settings, step: str, day: date) -> None:
    """End the day's run of the part that a step belongs to, with the headlines of all its steps."""
    facts: dict[str, Any] = {}
    for name in part_of(step):
        partition = settings.lake.find(name, day)
        if partition is not None:
            facts |= headlines(tracked(settings, name).facts, partition.facts)
    Tracker(settings).finish_part(tracked(settings, step).part, day, facts)


def request(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Result:
    """As `ensure`, but raises UntrustedDay where the step refuses the day."""
    result = ensure(settings, step, day, make_spark)
    facts = result.partition.facts
    if facts.get("trusted") is False:
        raise UntrustedDay(refusal(settings, day, facts["reason"]))
    return result


def refusal(settings: Settings, day: date, reason: str) -> str:
    """What a person is told about a day that validation refused."""
    return (
        f"{day} is not trusted. {reason} Fix the input and run the day again, or relax the limits "
        f"in [validation]. The report is in {settings.report('validate', day)}, the bad rows are "
        f"in {settings.lake.home('quarantine', day)}."
    )


def execute(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Partition:
    """As `ensure`, but the step itself is run in any case."""
    reopen_sources()
    prepare(settings, step, day, make_spark)
    partition = compute(settings, step, day, make_spark, again=True)
    # The steps after it may be current with what it found: nobody else ends the day's run then.
    if current(settings, part_of(step)[-1], day):
        close_part(settings, step, day)
    return partition


def prepare(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> None:
    """Compute what a step needs, and what that needs, where it is not current.

    Without recursion: a chain of days may be as long as the log.
    """
    waiting = [(step, day, iter(needs(settings, step, day)))]
    known = freshness(settings)
    while waiting:
        top, of_day, remaining = waiting[-1]
        stale = next((needed for needed in remaining if not known.current(*needed)), None)
        if stale is not None:
            waiting.append((*stale, iter(needs(settings, *stale))))
            continue
        waiting.pop()
        # With its inputs as they are now, it may turn out to be current.
        if waiting and not known.current(top, of_day):
            compute_or_refuse(settings, top, of_day, make_spark)
            known = freshness(settings)  # what was computed changes the verdicts on the others


def compute_or_refuse(
    settings: Settings, step: str, day: date, make_spark: SparkMaker
) -> Partition:
    """As `compute`, but a refusal that the step commits is a result as well."""
    try:
        return compute(settings, step, day, make_spark)
    except UntrustedDay:
        # Any other step that meets a refused day commits nothing.
        verdict = current(settings, step, day)
        if verdict is None:
            raise
        return verdict


def compute(
    settings: Settings, step: str, day: date, make_spark: SparkMaker, again: bool = False
) -> Partition:
    """Run one step of one day whose inputs are current.

    again: also where another runner has just computed it.
    """
    job = module(step)
    tracker = Tracker(settings)
    with failures_explained(settings), settings.lake.claimed(step, day):
        # This runner may have waited for another one.
        if not again and (found := current(settings, step, day)):
            return found
        with tracker.step_run(tracked(settings, step), day) as run:
            spark = make_spark() if job.SPARK else None
            try:
                job.run(spark, settings, day)
            except UntrustedDay:
                # `validate` commits its refusal, whose figures explain it. Any other step that
                # meets a refused day commits nothing: what it has is from before.
                found = current(settings, step, day)
                if run and found and found.facts.get("trusted") is False:
                    run.record(found)
                raise
            partition = settings.lake.get(step, day)
            if run:
                run.record(partition)
                if hasattr(job, "track"):
                    job.track(tracker, partition)
    return partition
