"""validate: is the day to be trusted, and which of its rows.

Single bad rows go to quarantine/day=D with their reason. A day whose columns are wrong, that is empty, has far fewer
rows than usual or too many bad ones is refused: its verdict is committed, without tables, and the step fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib import import_module
from math import ceil
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING

from jobs.checks.row_rules import Evidence, Rule, repeat_keys, rules_for, with_reason
from jobs.errors import UntrustedDay
from jobs.lake.schema import (
    CONSUMER_TABLE,
    ENGAGEMENT_TABLE,
    ENGAGEMENTS,
    IMPRESSION_TABLE,
    ITEM_TABLE,
    expected_columns,
    with_prefix,
)
from jobs.lake.store import Partition, Staging
from jobs.pipeline.plan import window
from jobs.settings import Settings, ValidationSettings
from jobs.sources import open_source
from jobs.sources.rows import union
from jobs.steps.land import parquet_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "validation")
ORDER = (
    ITEM_TABLE,
    CONSUMER_TABLE,
    IMPRESSION_TABLE,
    ENGAGEMENT_TABLE,
)  # items first: impressions are compared with them


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    """The day as landed, and the days before it, whose row counts tell what is usual."""
    return [("land", when) for when in [day, *days_before(settings, day)]]


def days_before(settings: Settings, day: date) -> list[date]:
    return window(settings, day - timedelta(days=1), settings.validation.median_days)


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """land/day=D -> validate/day=D (clean rows, or a refusal) and quarantine/day=D (bad rows, each with its reason).

    Facts: trusted, reason, rows_<table> (clean), bad_<table>, and what Great Expectations met.
    Raises UntrustedDay, once the refusal is committed, naming the expectation and the figure.
    """
    gx = in_background("jobs.checks.expectations")
    lake, digest = settings.lake, settings.digest(*SETTINGS)
    land = lake.get("land", day)
    before = [lake.get("land", when) for when in days_before(settings, day)]
    with judged_tables(spark, settings, day, land) as tables:
        evidence = [
            with_usual(table.evidence, settings.validation, land, before) for table in tables
        ]
        expectations = gx.result()
        results = expectations.judge(day, evidence, settings.validation.max_bad_share)
        reason = " ".join(expectations.verdict(evidence, results))
        with lake.writing("quarantine", day, settings=digest, inputs=[land]) as aside:
            put_aside(aside, tables)
        with lake.writing("validate", day, settings=digest, inputs=[land, *before]) as staging:
            staging.facts |= {"trusted": not reason, "reason": reason} | expectations.facts(results)
            staging.facts |= {f"bad_{one.table}": one.bad_rows for one in evidence}
            if not reason:
                write_clean(staging, land, tables, settings.spark.partitions)
    report = settings.report("validate", day)
    expectations.write_report(report, day, reason, results)
    if reason:
        raise UntrustedDay(
            f"{day} is not trusted. {reason} Mend the input and land the day again, or loosen [validation]. "
            f"The report is in {report}, the bad rows are in {lake.root / 'quarantine' / f'day={day}'}."
        )


def in_background(name: str) -> Future[ModuleType]:
    """Import a module while Spark works: Great Expectations takes 3 s of Python, which Spark does not need."""
    import pyspark.sql.functions
    import pyspark.sql.window  # noqa: F401  # what both sides import, so that neither waits for the other half-way

    worker = ThreadPoolExecutor(1)
    try:
        return worker.submit(import_module, name)
    finally:
        worker.shutdown(wait=False)


@dataclass(frozen=True)
class Judged:
    """A table of the day as landed and with the `reason` of every row, and what is known of it."""

    landed: DataFrame
    rows: DataFrame
    evidence: Evidence

    @property
    def name(self) -> str:
        return self.evidence.table

    @property
    def good(self) -> DataFrame:
        return (
            self.rows.where("reason = ''").drop("reason") if self.evidence.bad_rows else self.landed
        )

    @property
    def bad(self) -> DataFrame:
        return self.rows.where("reason <> ''")


@contextmanager
def judged_tables(
    spark: SparkSession, settings: Settings, day: date, land: Partition
) -> Iterator[list[Judged]]:
    """Every table of the day, its rows judged by the rules; if any has columns that are not the schema's, none is."""
    source = open_source(settings)
    landed = {table: land.read(spark, table) for table in ORDER if land.has(table)}
    fits = all(
        dict(rows.dtypes) == expected_columns(table, rows.columns) for table, rows in landed.items()
    )
    judged: dict[str, Judged] = {}
    try:
        for table, rows in landed.items():
            items = (
                judged[ITEM_TABLE].good.select("item_id") if fits and ITEM_TABLE in judged else None
            )
            rules = rules_for(table, rows.columns, source, day, items is not None) if fits else []
            judged[table] = judge_rows(
                table, rows, rules, repeat_keys(table, rows.columns, source), items
            )
        yield list(judged.values())
    finally:
        for found in judged.values():
            found.rows.unpersist()


def judge_rows(
    table: str, landed: DataFrame, rules: list[Rule], keys: list[str], items: DataFrame | None
) -> Judged:
    """The rows with their reason, and how many there are of each; without rules only the columns are told."""
    evidence = Evidence(table, dict(landed.dtypes), expected_columns(table, landed.columns), rules)
    if not rules:
        return Judged(landed, landed, evidence)
    rows = with_reason(landed, rules, keys, items if table == IMPRESSION_TABLE else None)
    if table in (
        IMPRESSION_TABLE,
        ENGAGEMENT_TABLE,
    ):  # of profiles and facts hardly a row is ever bad, nor read again
        rows = rows.persist()
    counts = {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}
    return Judged(landed, rows, replace(evidence, reasons=dict(sorted(counts.items()))))


def with_usual(
    evidence: Evidence, limits: ValidationSettings, land: Partition, before: list[Partition]
) -> Evidence:
    """Add how many rows the day's main table must have at least; the other tables are not counted."""
    if evidence.table != (IMPRESSION_TABLE if land.has(IMPRESSION_TABLE) else ENGAGEMENT_TABLE):
        return evidence
    fact = f"rows_{evidence.table}"
    counts = [
        rows for partition in before if (rows := partition.facts.get(fact, 0))
    ]  # an empty day tells nothing
    if limits.min_rows_share == 0:
        return replace(evidence, min_rows=0, usual="min_rows_share is 0: quiet days are normal")
    if len(counts) < limits.median_min_days:
        return replace(evidence, min_rows=1, usual="a day must not be empty")
    usual = median(counts)
    text = f"{100 * limits.min_rows_share:g} % of {usual:,.0f}, the median of the {len(counts)} days before"
    return replace(evidence, min_rows=ceil(limits.min_rows_share * usual), usual=text)


def put_aside(staging: Staging, tables: list[Judged]) -> None:
    """The bad rows of every table, with their reason. Facts: bad_<table>, bad_<table>/<fault> of each fault found."""
    for table in tables:
        staging.facts[f"bad_{table.name}"] = table.evidence.bad_rows
        staging.facts |= {
            f"bad_{table.name}/{fault}": rows
            for fault, rows in table.evidence.by_fault().items()
            if rows
        }
        if table.evidence.bad_rows:
            staging.write(table.bad, table.name, keys=table.bad.columns)


def write_clean(staging: Staging, land: Partition, tables: list[Judged], partitions: int) -> None:
    """The good rows of every table, and as engagements those of the source and the labels of its impressions."""
    clean = {table.name: table.good for table in tables}
    as_landed = {table.name for table in tables if not table.evidence.bad_rows}
    impressions = clean.get(IMPRESSION_TABLE)
    if impressions is not None and (labels := with_prefix(impressions.columns, "label_")):
        told = [clean[ENGAGEMENT_TABLE]] if ENGAGEMENT_TABLE in clean else []
        clean[ENGAGEMENT_TABLE] = union([*told, engagements_of(impressions, labels)])
        as_landed.discard(ENGAGEMENT_TABLE)
    for name, rows in clean.items():
        if name in as_landed:
            shutil.copytree(land.path / name, staging.path / name)
        else:
            staging.write(rows, name, keys=rows.columns, partitions=partitions)
        staging.facts[f"rows_{name}"] = parquet_rows(staging.path / name)


def engagements_of(impressions: DataFrame, labels: list[str]) -> DataFrame:
    """One row for every label that is 1: its name is the kind, the value is 1, ids and time are the impression's."""
    from pyspark.sql import functions as F

    ids = ("consumer_id", "producer_id", "item_id", "time_ms")
    told = impressions.unpivot(ids, tuple(labels), "label", "happened")
    kind = F.substring("label", len("label_") + 1, 1000).alias("kind")
    rows = told.where("happened = 1").select("*", kind, F.lit(1.0).alias("value"))
    return rows.select(*ENGAGEMENTS)
