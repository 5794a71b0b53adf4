"""The plan of a day: the steps in order, what each needs, and how one is run.

A step runs when its partition is requested and not current; what it needs is computed first, and
what it can do without is passed over where that fails (docs/decisions/0003).
`jobs/steps/__init__.py` describes what a step file holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from embeddings.facts import headlines
from embeddings.registry.errors import RegistryError
from jobs.errors import BadInput, EvergreenError, Skip, UntrustedDay
from jobs.lake.store import Partition, Staging
from jobs.pipeline.failures import failures_explained
from jobs.pipeline.freshness import Freshness, Plan
from jobs.pipeline.needs import Need, Undecided, available, is_optional
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
Reads = Mapping[Need, Partition]  # in the order in which the step's `needs` names them
log = logging.getLogger(__name__)


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


def trusted(verdict: Partition | None) -> bool:
    """Did validation trust the day? verdict: of `validate`; None where it could not be computed."""
    return verdict is not None and bool(verdict.facts["trusted"])


# What is current


def recipe(settings: Settings, step: str) -> str:
    """Identity of what shapes a step's result besides its inputs: its settings and its code.

    A step raises its FORMAT when it computes something else from the same inputs.
    """
    job = module(step)
    return f"{settings.digest(*job.SETTINGS)}/{job.FORMAT}"


def needs(settings: Settings, step: str, day: date) -> Iterable[Need]:
    """The partitions that a step reads on a day, see `jobs.pipeline.needs`.

    Later ones may depend on what earlier ones hold, so each must be computed before the next is
    requested.
    """
    return module(step).needs(settings, day)


def beside(step: str) -> tuple[str, ...]:
    """What else a step commits on a day, by name."""
    return getattr(module(step), "BESIDE", ()) if step in STEPS else ()


def freshness(settings: Settings) -> Freshness:
    """A look at the lake with the current settings; take a new one after a step has run."""

    def contradicted(found: Partition) -> str:
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
            recipe=lambda step: recipe(settings, step) if step in STEPS else None,
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

    Each partition is tried once; where that fails, what can do without it goes on. Raises the
    reason where the step itself cannot. Without recursion: a chain of days may be as long as the
    log.
    """
    tried: dict[Need, Exception | None] = {}
    waiting = [(step, day)]
    while waiting:
        top = waiting[-1]
        known = freshness(settings)  # what was computed changes the verdicts on the others
        try:
            require_needs(settings, *top, known, tried)
            # With its inputs as they are now, it may turn out to be current.
            if len(waiting) > 1 and not known.current(*top):
                compute_or_refuse(settings, *top, make_spark)
            tried[top] = None
        except Undecided as first:
            waiting.append(first.need)
            continue
        except Exception as reason:
            if len(waiting) == 1:
                raise
            warn_once(top, reason, tried)
            tried[top] = reason
        waiting.pop()


def require_needs(
    settings: Settings,
    step: str,
    day: date,
    known: Freshness,
    tried: Mapping[Need, Exception | None],
) -> None:
    """Are all needs of a step current, or tried, without those that it can do without?

    tried: what was computed, and the reason where that failed. Raises Undecided for the first one
    that is to be computed, and the reason where one failed that the step cannot do without.
    """

    def there(need: Need) -> bool:
        if need not in tried and known.current(*need) is None:
            raise Undecided(need)
        reason = tried.get(need)
        if reason is not None and not is_optional(need):
            raise reason
        return reason is None

    for _ in available(needs(settings, step, day), there):
        pass


def warn_once(failed: Need, reason: Exception, tried: Mapping[Need, Exception | None]) -> None:
    """Say what could not be computed; not again of what could not be for the same reason."""
    if reason in tried.values():
        return
    expected = isinstance(reason, EvergreenError | RegistryError | Skip)
    log.warning(
        "%s/%s cannot be computed; what can do without it goes on. %s",
        *failed,
        reason,
        exc_info=None if expected else reason,
    )


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
