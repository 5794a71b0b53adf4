"""Running a step of a day: what it needs first, and itself only where it is not current.

What a step can do without is passed over where it cannot be computed (docs/decisions/0003).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from embeddings.facts import headlines
from embeddings.registry.errors import RegistryError
from jobs.errors import EvergreenError, Skip, UntrustedDay
from jobs.freed_memory import give_back
from jobs.lake.store import Partition
from jobs.parts import LEAVES, part_of
from jobs.pipeline.failures import failures_explained
from jobs.pipeline.freshness import DAMAGED, Freshness, Verdict
from jobs.pipeline.needs import Need, Undecided, available, is_computed, is_optional
from jobs.pipeline.observing import observed
from jobs.pipeline.plan import current, freshness, module, needs, tracked
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings, cores_of
from jobs.sources import open_source, reopen_sources
from jobs.sources.file_log import FileLog
from jobs.spark.job_spans import traced_jobs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SparkMaker = Callable[[], "SparkSession"]
log = logging.getLogger(__name__)


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
    read_new_files(settings, make_spark)
    found = current(settings, step, day)
    if found is None:
        prepare(settings, step, day, make_spark)
        found = compute_or_refuse(settings, step, day, make_spark)
        last = part_of(step)[-1]
        # A leaf may end after the last step, as the only one that could end the day's run then.
        if step == last or (step in LEAVES and current(settings, last, day)):
            close_part(settings, step, day)
        return Result(found, reused=False)
    record_again(settings, found)
    return Result(found, reused=True)


def read_new_files(settings: Settings, make_spark: SparkMaker) -> None:
    """See which files the log has now. On a cluster, new ones are read there."""
    reopen_sources()
    source = open_source(settings)
    on_cluster = settings.spark.remote or cores_of(settings.spark.master) is None
    if on_cluster and isinstance(source, FileLog):
        from jobs.spark.log_files import taker_on

        source.read(taker_on(make_spark))


def record_again(settings: Settings, partition: Partition) -> None:
    """Record a current partition in MLflow where a kill or a failure has prevented that."""
    tracker = Tracker(settings)
    step = tracked(settings, partition.step)
    if not tracker.recorded(step, partition):
        job = module(partition.step)
        # Observed: what has prevented it may have been the end of a failed attempt.
        with (
            observed(settings, partition.step, partition.day) as attempt,
            tracker.step_run(step, partition.day, computes=False) as run,
        ):
            if run:
                attempt.name_run(run.run_id)
                run.record(partition)
                if hasattr(job, "track"):
                    job.track(tracker, partition)
    if step.last:
        close_part(settings, partition.step, partition.day)


def close_part(settings: Settings, step: str, day: date) -> None:
    """End the day's run of the part that a step belongs to, with the headlines of all its steps."""
    facts: dict[str, Any] = {}
    for name in part_of(step):
        partition = settings.lake.find(name, day)
        if partition is not None:
            facts |= headlines(tracked(settings, name).facts, partition.facts)
    Tracker(settings).finish_part(tracked(settings, step).part, day, facts)


def request(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Result:
    """As `ensure`, but raises UntrustedDay for a day that is refused, and Skip for an empty one."""
    result = ensure(settings, step, day, make_spark)
    facts = result.partition.facts
    if facts.get("empty"):
        raise Skip(nothing_happened(day))
    if facts.get("trusted") is False:
        raise UntrustedDay(refusal(settings, day, facts["reason"]))
    return result


def nothing_happened(day: date) -> str:
    """The message about a day of which the log has no rows."""
    return f"The log has no rows of {day}. The days after it are computed without it."


def refusal(settings: Settings, day: date, reason: str) -> str:
    """The message about a day that validation refused."""
    return (
        f"{day} is not trusted. {reason} Fix the input and run the day again, or relax the limits "
        f"in [validation]. The report is in {settings.report('validate', day)}, the bad rows are "
        f"in {settings.lake.home('quarantine', day)}."
    )


def execute(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Partition:
    """As `ensure`, but the step itself is run in any case."""
    read_new_files(settings, make_spark)
    prepare(settings, step, day, make_spark)
    return execute_prepared(settings, step, day, make_spark)


def execute_prepared(settings: Settings, step: str, day: date, make_spark: SparkMaker) -> Partition:
    """Run a step whose inputs are there, in any case."""
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
        if not is_computed(need):
            return known.current(*need) is not None
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


def say_why(verdict: Verdict) -> None:
    """Log why a committed partition is computed again; damage is a warning."""
    assert verdict.partition is not None, "there was nothing to compute again"
    damaged = verdict.why.startswith(DAMAGED)
    level = logging.WARNING if damaged else logging.INFO
    because = f"{verdict.because} {verdict.why}".strip() or "this was asked for"
    log.log(level, "%s is computed again: %s.", verdict.partition.key, because)


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
        verdict = freshness(settings).judge(step, day)
        if verdict.partition is not None:
            if verdict.current and not again:
                return verdict.partition
            say_why(verdict)
        with (
            observed(settings, step, day) as attempt,
            tracker.step_run(tracked(settings, step), day) as run,
        ):
            if run:
                attempt.name_run(run.run_id)
            spark = make_spark() if job.SPARK else None
            try:
                with traced_jobs(spark):
                    job.run(spark, settings, day)
            except UntrustedDay:
                # `validate` commits its refusal, whose figures explain it. Any other step that
                # meets a refused day commits nothing: what it has is from before.
                found = current(settings, step, day)
                if run and found and found.facts.get("trusted") is False:
                    run.record(found)
                raise
            partition = settings.lake.get(step, day)
            attempt.count_rows(partition)
            if run:
                run.record(partition)
                if hasattr(job, "track"):
                    job.track(tracker, partition)
    give_back()  # the steps after it may need it
    return partition
