"""Traces of a step and its Spark jobs, as a receiver gets them."""

from __future__ import annotations

import threading
from datetime import date

import pytest
from pyspark.sql import functions as F

from jobs import tracing
from jobs.errors import Skip
from jobs.pipeline.observing import observed
from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings
from jobs.spark.job_spans import FinishedJobs, traced_jobs
from tests.otlp_receiver import Receiver, receiving

DAY = date(2024, 3, 1)


@pytest.fixture(scope="module")
def endpoint():
    """One for the module: the process has one provider of traces, which keeps its endpoint."""
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
        yield receiver


@pytest.fixture
def receiver(endpoint):
    endpoint.spans.clear()
    return endpoint


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "log.txt").write_text("c1 p1 1709251200\n")
    source = EdgelistSettings(kind="edgelist", path=tmp_path / "log.txt")
    return Settings(home=tmp_path / "home", source=source)


def flush(receiver: Receiver) -> Receiver:
    """Send what waits to be sent."""
    from opentelemetry import trace

    assert trace.get_tracer_provider().force_flush()
    return receiver


def test_spark_jobs_are_below_the_step_that_ran_them(receiver, settings, spark):
    with tracing.span("evergreen run"):
        for step, rows in (("matrix", 7), ("embed", 8)):
            with observed(settings, step, DAY), traced_jobs(spark):
                assert spark.range(rows).groupBy(F.col("id") % 2).count().count() == 2
    spark.range(3).count()  # after the steps: of none
    flush(receiver)
    (run,) = receiver.named("evergreen run")
    (matrix,), (embed,) = receiver.named("matrix"), receiver.named("embed")
    assert (run.parent, matrix.parent, embed.parent) == ("", run.id, run.id)
    jobs = receiver.named("spark job")
    assert {job.parent for job in jobs} == {matrix.id, embed.id}
    for job in jobs:
        step = matrix if job.parent == matrix.id else embed
        # Spark counts in milliseconds.
        assert step.start_ns - 1e6 <= job.start_ns <= job.end_ns <= step.end_ns + 1e6
        assert job.attributes["spark.job.status"] == "SUCCEEDED"
        assert job.attributes["spark.job.tasks"] >= 1
    numbers = [job.attributes["spark.job.id"] for job in jobs]
    assert len(set(numbers)) == len(numbers) >= 2
    assert {span.trace for span in receiver.spans} == {run.trace}
    assert {span.service for span in receiver.spans} == {"evergreen"}


def test_every_step_keeps_its_own_attributes(receiver, settings):
    """Airflow's metrics once overwrote each other's labels (apache/airflow #50334)."""
    for number, step in enumerate(("land", "embed")):
        with observed(settings, step, DAY) as attempt:
            attempt.name_run(f"run {number}")
    flush(receiver)
    found = {span.name: span.attributes for span in receiver.spans}
    names = ("step", "day", "embedding", "run")
    expected = {
        "land": ("land", str(DAY), "", "run 0"),
        "embed": ("embed", str(DAY), "producer", "run 1"),
    }
    for step, values in expected.items():
        assert found[step] == {f"evergreen.{n}": v for n, v in zip(names, values, strict=True)}


@pytest.mark.parametrize(("reason", "failed"), [(ValueError("no"), True), (Skip("no"), False)])
def test_a_failed_step_is_a_failed_span(receiver, settings, reason, failed):
    with pytest.raises(type(reason)), observed(settings, "land", DAY):
        raise reason
    assert [span.failed for span in flush(receiver).spans] == [failed]


def test_jobs_of_two_steps_at_once_are_told_apart(receiver, settings, spark):
    """As on the Connect server, whose sessions run beside each other."""

    def run(step: str) -> None:
        with observed(settings, step, DAY), traced_jobs(spark):
            spark.range(5).count()

    threads = [threading.Thread(target=run, args=(step,)) for step in ("matrix", "embed")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush(receiver)
    steps = {span.id for span in (*receiver.named("matrix"), *receiver.named("embed"))}
    assert len(steps) == 2
    assert {job.parent for job in receiver.named("spark job")} == steps


@pytest.mark.parametrize("broken", ["__init__", "_report"])
def test_what_cannot_be_reported_fails_no_step(
    receiver, settings, spark, monkeypatch, caplog, broken
):
    def fail(*_):
        raise RuntimeError("the driver does not answer")

    monkeypatch.setattr(FinishedJobs, broken, fail)
    with observed(settings, "land", DAY), traced_jobs(spark):
        assert spark.range(5).count() == 5
    assert [span.failed for span in flush(receiver).named("land")] == [False]
    assert "not in the trace" in caplog.text
    assert "the driver does not answer" in caplog.text
    assert not spark.getTags()


def test_without_an_endpoint_nothing_is_tagged(settings, spark, monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with observed(settings, "land", DAY) as attempt, traced_jobs(spark):
        assert attempt.span is None
        assert not spark.getTags()
