"""benchmark: judge the day's version, and the versions of earlier days on this day's engagements.

results.json    one object per result, as `embeddings.benchmarks.results.Result`, and the `version`
                that it judges: the day of its vectors

Tasks about the future judge the version of the day before, and the one of a week before to show
what it has lost. So each version has the results of the days that came after it, too: `publish`
adds them to its record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from embeddings.benchmarks.intervals import Estimate
from embeddings.benchmarks.judging import difference, measure
from embeddings.benchmarks.results import Result, whole
from embeddings.benchmarks.tasks import base
from embeddings.benchmarks.tasks.base import Benchmark, Case, NotJudged
from embeddings.facts import Fact
from jobs.judging.labels import (
    read_engagements,
    read_topics,
    with_consumer_topics,
    with_engagements,
    with_producer_topics,
    with_profiles,
)
from jobs.judging.vectors import Learned, case_of, some_consumers
from jobs.lake.store import Partition
from jobs.pipeline.needs import Need, optional
from jobs.pipeline.plan import Reads, first_day, reads, recording
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding", "benchmark")
FORMAT = 3
SPARK = False
RESULTS = "results.json"
LEARNED = ("matrix", "align", "fold_in")  # the steps that a version's vectors come from
FRESH, STALE = AGES = (1, 7)  # age in days of the versions that the day's engagements judge
CONSUMERS = 10_000  # at most, that are judged
DIGITS = 6  # after the point: far finer than any interval, and the same on every machine

NOT_JUDGED = Fact("not_judged", "which tasks could not judge a version, and why")


def task_facts() -> Iterator[Fact]:
    """What is recorded of every task."""
    for name in base.names():
        task = base.benchmark(name)
        for metric in task.METRICS:
            yield from metric_facts(f"{name}_{metric.name}", task, metric)


def metric_facts(name: str, task: Benchmark, metric: Fact) -> Iterator[Fact]:
    which = "yesterday's version on this day" if task.LATER else "the day's version"
    meaning = f"{task.TITLE}: {metric.meaning}, of {which}"
    headline = metric is task.METRICS[0]
    yield Fact(name, meaning, metric.unit, metric.better, headline)
    yield Fact(f"{name}_by_<baseline>", "the same by a baseline", metric.unit, metric.better)
    yield Fact(f"{name}_<dim>_dims", "the same of shorter vectors", metric.unit, metric.better)
    yield from interval_facts(name, metric)
    if task.LATER:
        week = f"the same of the version of {STALE} days ago, for the same consumers"
        yield Fact(f"{name}_week_old", week, metric.unit, metric.better)
        yield Fact(f"{name}_gain", "what yesterday's version gains on it", metric.unit, "higher")
        yield from interval_facts(f"{name}_gain", metric)


def interval_facts(name: str, metric: Fact) -> Iterator[Fact]:
    for bound, which in (("low", "lower"), ("high", "upper")):
        yield Fact(f"{name}_{bound}", f"{which} end of its 95 % interval", metric.unit)


FACTS = (NOT_JUDGED, *task_facts())


def needs(settings: Settings, day: date) -> list[Need]:
    """The day's tables and vectors, and the vectors of earlier days that the day's rows judge."""
    wanted: list[Need] = [("validate", day), *((step, day) for step in LEARNED)]
    for age in AGES:
        earlier = day - timedelta(days=age)
        if earlier >= first_day(settings):
            wanted += [optional(step, earlier) for step in LEARNED]
    return wanted


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Run every task that has what it needs."""
    lengths = sorted({*settings.benchmark.lengths, *settings.embedding.lengths.of}, reverse=True)
    read = reads(settings, "benchmark", day)
    # On one thread, because the last bits would depend on their number.
    with recording(settings, "benchmark", day, read.values()) as staging, threadpool_limits(1):
        own = {day: own_case(settings, read, day)}
        later = later_cases(settings, read, day)
        records: list[dict[str, Any]] = []
        missing = []
        for name in base.names():
            task = base.benchmark(name)
            cases = later if task.LATER else own
            try:
                results = judge(name, task, cases, lengths, day)
                staging.facts |= facts_of(task, results, cases, day)
                records += records_of(results)
            except NotJudged as reason:
                missing.append(f"{name}: {reason}")
        write_results(staging.path / RESULTS, records)
        if missing:
            staging.facts[NOT_JUDGED.name] = "; ".join(missing)


def own_case(settings: Settings, read: Reads, day: date) -> Case:
    """The day's version, with what is known on the day itself."""
    learned = learned_on(read, day)
    assert learned is not None, "it is needed"
    tables = read["validate", day]
    case = case_of(learned, some_consumers(learned, CONSUMERS))
    case = with_producer_topics(case, read_topics(tables, settings.benchmark.topic_column))
    return with_profiles(case, tables)


def later_cases(settings: Settings, read: Reads, day: date) -> dict[date, Case]:
    """The versions of earlier days with the day's engagements, all of the same consumers."""
    tables = read["validate", day]
    engagements = read_engagements(tables, settings.matrix.weights, CONSUMERS)
    topics = read_topics(tables, settings.benchmark.topic_column)
    cases = {}
    for age in AGES:
        version = day - timedelta(days=age)
        learned = learned_on(read, version)
        if learned is not None and len(engagements.consumer_ids):
            case = with_engagements(case_of(learned, engagements.consumer_ids), engagements)
            cases[version] = with_consumer_topics(case, engagements, topics)
    return cases


def learned_on(read: Reads, day: date) -> Learned | None:
    """The vectors of a day; None where one of their partitions is not there."""
    found = [read[step, day].path for step in LEARNED if (step, day) in read]
    return Learned(*found) if len(found) == len(LEARNED) else None


# The results


def judge(
    name: str, task: Benchmark, cases: dict[date, Case], lengths: list[int], day: date
) -> dict[date, list[Result]]:
    """The results of a task, by the day of the version.

    Only those of the newest one have the rivals without vectors, and shorter lengths beside them.
    Raises NotJudged.
    """
    if not cases:
        raise NotJudged("there is no earlier version, or no engagement")
    newest = max(cases)
    results = {}
    for version, case in cases.items():
        results[version] = measure(name, task, case, day, with_rivals=version == newest)
    for dim in lengths:
        results[newest] += measure(name, task, cases[newest], day, dim, with_rivals=False)
    return results


def facts_of(
    task: Benchmark, results: dict[date, list[Result]], cases: dict[date, Case], day: date
) -> dict[str, float]:
    """The figures of the day's version, or of yesterday's for a task about the future.

    For such a task also what the version of a week ago reaches, and what is gained on it.
    """
    fresh = day - timedelta(days=FRESH) if task.LATER else day
    stale = day - timedelta(days=STALE)
    facts: dict[str, float] = {}
    for result in results.get(fresh, []):
        facts |= result_facts(result)
    for result in whole(results.get(stale, [])):
        facts[f"{result.name}_week_old"] = round(result.value, DIGITS)
    if fresh in cases and stale in cases:
        gains = difference(task, cases[fresh], cases[stale])
        for result in whole(results[fresh]):
            facts |= interval_of(f"{result.name}_gain", gains[result.metric])
    return facts


def result_facts(result: Result) -> dict[str, float]:
    """A result with its interval and its baselines; of a shorter length only the value."""
    if result.dim:
        return {result.name: round(result.value, DIGITS)}
    facts = interval_of(result.name, result)
    for baseline, value in result.baselines.items():
        facts[f"{result.name}_by_{baseline}"] = round(value, DIGITS)
    return facts


def interval_of(name: str, estimate: Result | Estimate) -> dict[str, float]:
    return {
        name: round(estimate.value, DIGITS),
        f"{name}_low": round(estimate.low, DIGITS),
        f"{name}_high": round(estimate.high, DIGITS),
    }


def records_of(results: dict[date, list[Result]]) -> list[dict[str, Any]]:
    """As `results.json` has them."""
    records = []
    for version, found in results.items():
        for result in found:
            record = asdict(result) | {"version": str(version), "on": str(result.on)}
            for field in ("value", "low", "high"):
                record[field] = round(record[field], DIGITS)
            for baseline, value in result.baselines.items():
                record["baselines"][baseline] = round(value, DIGITS)
            records.append(record)
    return records


def write_results(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")


def results_in(partition: Partition, version: date) -> list[Result]:
    """The results that a partition has about the version of a day."""
    found = []
    for record in json.loads((partition.path / RESULTS).read_text()):
        if record.pop("version") == str(version):
            found.append(Result(**record | {"on": date.fromisoformat(record["on"])}))
    return found
