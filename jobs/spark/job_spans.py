"""Spark jobs as spans of the step that ran them, by what the driver remembers of finished jobs.

A step tags what it runs with its traceparent (`SparkSession.addTag`, which sessions on a Connect
server have too), and Spark notes the tags of every job. The process of the driver reads them: of a
classic session, the step itself; of our Connect server, that server, once a second. A Connect
server of one's own does not do this, so its jobs are not in the trace.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from jobs import tracing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
LONGEST_NAME = 100  # characters of what Spark calls a job
log = logging.getLogger(__name__)


@contextmanager
def traced_jobs(spark: SparkSession | None) -> Iterator[None]:
    """Tag the jobs that this thread runs in the block with the current span, and report them.

    A thread that the block starts has tags of its own: its jobs are not in the trace.
    """
    parent = tracing.traceparent()
    if spark is None or not parent:
        yield
        return
    spark.addTag(parent)
    try:
        with nullcontext() if is_remote(spark) else reported(spark):
            yield
    finally:
        with unharmed("The tag of the step's Spark jobs is not removed"):
            spark.removeTag(parent)


@contextmanager
def unharmed(what: str) -> Iterator[None]:
    """Log an exception of the block and go on: no step fails because its jobs are not traced."""
    try:
        yield
    except Exception:  # such as a driver that has died, or a Spark with other internals
        log.warning("%s.", what, exc_info=True)


def is_remote(spark: SparkSession) -> bool:
    """Is it a session on a Connect server?"""
    return not hasattr(spark, "_jsparkSession")


@contextmanager
def reported(spark: SparkSession) -> Iterator[None]:
    """Report the jobs of the block when it ends."""
    jobs = finished_jobs(spark)
    try:
        yield
    finally:
        if jobs is not None:
            jobs.report()


def finished_jobs(spark: SparkSession) -> FinishedJobs | None:
    """The jobs from here on; None where the driver does not list its jobs."""
    with unharmed("The Spark jobs are not in the trace"):
        return FinishedJobs(spark)
    return None


class FinishedJobs:
    """The jobs of a driver that have finished since the last report, or since this was made."""

    def __init__(self, spark: SparkSession) -> None:
        self._context: Any = spark.sparkContext._jsc.sc()
        known = self._context.statusStore().jobsList(None)
        # Spark lists the newest job first.
        self._unreported = known.apply(0).jobId() + 1 if known.size() else 0
        self._reported: set[int] = set()  # of those from there on

    def report(self) -> None:
        """Record a span for each that has a traceparent among its tags.

        Where Spark does not answer, that is logged.
        """
        with unharmed("The Spark jobs since the last report are not in the trace"):
            self._report()

    def _report(self) -> None:
        self._context.listenerBus().waitUntilEmpty()  # else the last job may not be known yet
        jobs = self._context.statusStore().jobsList(None)
        running = []
        newest = self._unreported - 1
        for position in range(jobs.size()):
            job = jobs.apply(position)
            number = job.jobId()
            if number < self._unreported:
                break
            newest = max(newest, number)
            if job.completionTime().isEmpty():
                running.append(number)
            elif number not in self._reported:
                self._reported.add(number)
                record(job)
        self._unreported = min(running, default=newest + 1)
        self._reported = {number for number in self._reported if number >= self._unreported}


def record(job: Any) -> None:
    """Record one finished job. job: Spark's JobData, through Py4J."""
    parent = TRACEPARENT.search(job.jobTags().mkString(" "))
    if parent is None or job.submissionTime().isEmpty():
        return
    status = job.status().toString()
    tracing.record(
        "spark job",
        parent[0],
        job.submissionTime().get().getTime(),
        job.completionTime().get().getTime(),
        {
            "spark.job.id": job.jobId(),
            "spark.job.name": shorten(job.name(), LONGEST_NAME, placeholder=" …"),
            "spark.job.status": status,
            "spark.job.stages": job.stageIds().size(),
            "spark.job.tasks": job.numTasks(),
        },
        error="" if status == "SUCCEEDED" else status,
    )
