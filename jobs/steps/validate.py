"""validate: decide whether the day can be trusted, and separate its good rows from its bad ones.

Single bad rows go to quarantine/day=D with their reason. A day is refused if its columns are wrong,
if it is empty, or if it has far fewer rows than usual or too many bad ones: its verdict is
committed, without tables, and the step fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib import import_module
from math import ceil
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.checks import counting, label_window
from jobs.checks.row_rules import (
    MERGED,
    Evidence,
    Rule,
    merges,
    read_as_row,
    repeat_keys,
    rules_for,
    with_reason,
)
from jobs.errors import UntrustedDay
from jobs.lake.schema import (
    CONSUMER_TABLE,
    ENGAGEMENT_TABLE,
    ENGAGEMENTS,
    IMPRESSION_TABLE,
    ITEM_TABLE,
    expected_columns,
    quoted,
    with_prefix,
    without_provenance,
)
from jobs.lake.store import Partition, Staging
from jobs.pipeline.needs import Need, optional
from jobs.pipeline.plan import reads, recipe, recording, window
from jobs.pipeline.running import refusal
from jobs.settings import Settings, ValidationSettings
from jobs.sources import open_source
from jobs.sources.days import day_bounds_ms
from jobs.sources.rows import union
from jobs.steps.land import parquet_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "validation")
FORMAT = 3
SPARK = True
BESIDE = ("quarantine",)
BATCH = 1 << 18  # rows that are copied together
FEW = 200_000  # rows of a table that are sorted as fast as their keys are counted
ORDER = (  # items first: impressions are compared with them
    ITEM_TABLE,
    CONSUMER_TABLE,
    IMPRESSION_TABLE,
    ENGAGEMENT_TABLE,
)
FACTS = (
    Fact("trusted", "whether the day is trusted; otherwise it is refused", better="higher"),
    Fact("reason", "why the day is refused; empty for a trusted day"),
    Fact("empty", "whether the log has no rows of the day, which is then skipped"),
    Fact("rows_impressions", "impressions without a fault", "rows", headline=True),
    Fact(
        "rows_engagements",
        "engagements without a fault, those from labels of impressions included",
        "rows",
        headline=True,
    ),
    Fact("rows_<table>", "rows of the table without a fault", "rows"),
    Fact("bad_impressions", "impressions with a fault", "rows", "lower", headline=True),
    Fact("bad_engagements", "engagements with a fault", "rows", "lower", headline=True),
    Fact("bad_consumers", "rows of consumers with a fault", "rows", "lower"),
    Fact("bad_items", "rows of items with a fault", "rows", "lower"),
    Fact(
        "late_<label>",
        "impressions whose label became 1 after validation.label_window_hours, and counts as 0",
        "rows",
    ),
    Fact("merged_impressions", "impressions whose labels another row of theirs has", "rows"),
    # In the quarantine. A row with two faults counts for both.
    Fact("bad_<table/fault>", "rows of the table with this fault", "rows", "lower"),
    Fact("gx_<suite>/success", "1 if every expectation of the suite is met", better="higher"),
    Fact("gx_<suite/fault>_percent", "share of the table's rows with this fault", "%", "lower"),
    Fact("gx_<suite/fault>", "rows of the table with this fault", "rows", "lower"),
)


def needs(settings: Settings, day: date) -> list[Need]:
    """The day as landed, and the days before it, whose row counts show what is usual."""
    before = days_before(settings, day)
    return [("land", day), *(optional("land", earlier) for earlier in before)]


def days_before(settings: Settings, day: date) -> list[date]:
    return window(settings, day - timedelta(days=1), settings.validation.median_days)


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """land/day=D -> validate/day=D (clean rows, or a refusal) and quarantine/day=D (bad rows).

    Raises UntrustedDay, after the refusal is committed, with the expectation and the figure found.
    """
    importing = in_background("jobs.checks.data_docs")
    lake = settings.lake
    limits = settings.validation
    read = reads(settings, "validate", day)
    land, *before = read.values()
    if limits.label_window_hours is not None and land.has(IMPRESSION_TABLE):
        # Before anything is written: it raises for a log without the times of labels.
        label_window.timed_labels(land.read(spark, IMPRESSION_TABLE).columns)
    with judged_tables(spark, settings, day, land) as tables:
        evidence = [with_usual(table.evidence, limits, land, before) for table in tables]
        importing.result()  # waits, and raises what the import raised
        from jobs.checks import data_docs, expectations

        results = expectations.judge(day, evidence, limits.max_bad_share)
        reason = " ".join(expectations.verdict(evidence, results))
        # Before the verdict, so that every committed verdict has its quarantine.
        made_by = recipe(settings, "validate")
        with lake.writing(BESIDE[0], day, recipe=made_by, inputs=[land]) as quarantine:
            write_bad(quarantine, tables)
        with recording(settings, "validate", day, read.values()) as staging:
            staging.facts["trusted"] = not reason
            staging.facts["reason"] = reason
            if reason and nothing_landed(land):
                staging.facts["empty"] = True
            staging.facts |= expectations.facts(results)
            for table in tables:
                staging.facts[f"bad_{table.name}"] = table.evidence.bad_rows
                if table.evidence.merged:
                    staging.facts[f"merged_{table.name}"] = table.evidence.merged
            if not reason:
                hours = limits.label_window_hours
                write_clean(staging, land, tables, settings.spark.partitions, hours)
    data_docs.write_report(settings.report("validate", day), day, reason, results)
    if reason:
        raise UntrustedDay(refusal(settings, day, reason))


def nothing_landed(land: Partition) -> bool:
    """Has the log no rows of the day, not even unreadable ones?"""
    return not any(
        land.facts.get(f"rows_{table}") for table in (IMPRESSION_TABLE, ENGAGEMENT_TABLE)
    )


def in_background(name: str) -> Future[ModuleType]:
    """Import a module while Spark works.

    Importing Great Expectations takes 3 s of Python, in which Spark can judge the rows.
    """
    # Both threads need these modules: imported first, neither thread waits for the other's import.
    import pyspark.sql.functions
    import pyspark.sql.window  # noqa: F401

    worker = ThreadPoolExecutor(1)
    try:
        return worker.submit(import_module, name)
    finally:
        worker.shutdown(wait=False)  # the thread ends after the import


@dataclass(frozen=True)
class Judged:
    """A table of the day: as landed, with the `reason` of every row, and what is known about it."""

    landed: DataFrame
    rows: DataFrame
    evidence: Evidence

    @property
    def name(self) -> str:
        return self.evidence.table

    @property
    def unchanged(self) -> bool:
        """Are the good rows those that were landed?"""
        return not self.evidence.bad_rows and not self.evidence.merged

    @property
    def good(self) -> DataFrame:
        """The good rows, without where they were read."""
        columns = [quoted(column) for column in without_provenance(self.landed.columns)]
        # Without a bad row no reason has to be computed again.
        rows = self.landed if self.unchanged else self.rows.where("reason = ''")
        return rows.select(*columns)

    @property
    def bad(self) -> DataFrame:
        return self.rows.where(f"reason not in ('', '{MERGED}')")


@contextmanager
def judged_tables(
    spark: SparkSession, settings: Settings, day: date, land: Partition
) -> Iterator[list[Judged]]:
    """Every table of the day, its rows judged by the rules.

    If the columns of any table are not those of the schema, no rows are judged.
    """
    landed = {table: land.read(spark, table) for table in ORDER if land.has(table)}
    if not all(has_schema(table, rows) for table, rows in landed.items()):
        yield [Judged(rows, rows, evidence_of(table, rows)) for table, rows in landed.items()]
        return
    start_ms = day_bounds_ms(day, open_source(settings).timezone)[0]
    judged: dict[str, Judged] = {}
    # The session may be shared and live long, and its cache with it.
    with ExitStack() as cached:
        for table, rows in landed.items():
            items = judged[ITEM_TABLE].good if ITEM_TABLE in judged else None
            few = land.facts.get(f"rows_{table}", 0) < FEW
            reasoned, sorts = by_rules(settings, day, table, rows, items, few)
            # Consumers and items rarely have a bad row, and without one they are not read again.
            if sorts and table in (IMPRESSION_TABLE, ENGAGEMENT_TABLE):
                cached.callback(reasoned.rows.persist().unpersist)
            judged[table] = counted(reasoned, start_ms, settings.validation)
        yield list(judged.values())


def by_rules(
    settings: Settings,
    day: date,
    table: str,
    landed: DataFrame,
    items: DataFrame | None,
    few: bool,
) -> tuple[Judged, bool]:
    """The rows of a table with their reason, and whether all must be sorted for it.

    items: the good ones of the day, if it has any. few: are the rows so few that all are sorted?
    """
    source, limits = open_source(settings), settings.validation
    columns = landed.columns
    rules = rules_for(table, columns, source, day, limits, items is not None)
    keys = repeat_keys(table, columns, source, limits)
    known = None
    if items is not None and table == IMPRESSION_TABLE:
        known = items.select("item_id")
    repeated = counting.repeated_keys(landed, keys) if keys and not few else None
    rows = with_reason(landed, rules, keys, known, merges(table, limits), repeated)
    sorts = bool(keys) and repeated is None
    return Judged(landed, rows, evidence_of(table, landed, rules)), sorts


def has_schema(table: str, rows: DataFrame) -> bool:
    return dict(rows.dtypes) == expected_columns(table, rows.columns)


def evidence_of(table: str, landed: DataFrame, rules: Sequence[Rule] = ()) -> Evidence:
    expected = expected_columns(table, landed.columns)
    return Evidence(table, dict(landed.dtypes), expected, list(rules))


def counted(judged: Judged, start_ms: int, limits: ValidationSettings) -> Judged:
    """The same, counted by reason, after the rows with a value too large have that reason.

    start_ms: midnight of the day.
    """
    rows, rules = judged.rows, judged.evidence.rules
    has_values = judged.name == ENGAGEMENT_TABLE
    max_ratio = limits.max_value_ratio if has_values else 0.0
    found = counting.count_reasons(rows, start_ms, max_ratio)
    reasons = found.reasons
    if found.largest:
        rows = counting.flag_too_large(rows, found.largest)
        reasons = counting.count_reasons(rows, start_ms, 0.0).reasons
    merged = reasons.pop(MERGED, 0)
    named = {rule.fault for rule in rules}
    for fault in sorted(set(" ".join(reasons).split()) - named):  # those of the reader
        rules = [*rules, read_as_row(fault)]
    evidence = replace(
        judged.evidence,
        rules=rules,
        reasons=reasons,
        merged=merged,
        resolution=found.resolution,
    )
    return Judged(judged.landed, rows, evidence)


def with_usual(
    evidence: Evidence, limits: ValidationSettings, land: Partition, before: list[Partition]
) -> Evidence:
    """Add the smallest number of rows to accept, to the day's main table only."""
    main_table = IMPRESSION_TABLE if land.has(IMPRESSION_TABLE) else ENGAGEMENT_TABLE
    if evidence.table != main_table:
        return evidence
    if limits.min_rows_share == 0:
        return replace(evidence, min_rows=0, usual="min_rows_share is 0: quiet days are normal")
    counts = []
    for partition in before:
        rows = partition.facts.get(f"rows_{main_table}", 0)
        if rows:  # an empty day does not show what is usual
            counts.append(rows)
    if len(counts) < limits.median_min_days:
        return replace(evidence, min_rows=1, usual="a day must not be empty")
    usual = median(counts)
    least = ceil(limits.min_rows_share * usual)
    share = f"{100 * limits.min_rows_share:g} %"
    text = f"{share} of {usual:,.0f}, the median of the {len(counts)} days before"
    return replace(evidence, min_rows=least, usual=text)


def write_bad(staging: Staging, tables: list[Judged]) -> None:
    """Write the bad rows of every table, with their reason, and count them by fault."""
    for table in tables:
        staging.facts[f"bad_{table.name}"] = table.evidence.bad_rows
        for fault, rows in table.evidence.by_fault().items():
            if rows:
                staging.facts[f"bad_{table.name}/{fault}"] = rows
        if table.evidence.bad_rows:
            staging.write(table.bad, table.name, keys=table.bad.columns)


def write_clean(
    staging: Staging,
    land: Partition,
    tables: list[Judged],
    partitions: int,
    label_window_hours: float | None = None,
) -> None:
    """Write the good rows of every table.

    The engagements are those of the source, and one for every positive label of an impression; one
    after the window is none.
    """
    clean: dict[str, DataFrame] = {}
    unchanged: set[str] = set()  # tables whose files can be copied
    for table in tables:
        clean[table.name] = table.good
        if table.unchanged:
            unchanged.add(table.name)
    impressions = clean.get(IMPRESSION_TABLE)
    if impressions is not None and label_window_hours is not None:
        late = label_window.count_late(impressions, label_window_hours)
        staging.facts |= {f"late_{label}": count for label, count in late.items()}
        impressions = label_window.within_window(impressions, label_window_hours)
        clean[IMPRESSION_TABLE] = impressions
        unchanged.discard(IMPRESSION_TABLE)
    labels = [] if impressions is None else with_prefix(impressions.columns, "label_")
    if impressions is not None and labels:
        engagements = [engagements_of(impressions, labels)]
        if ENGAGEMENT_TABLE in clean:
            engagements.insert(0, clean[ENGAGEMENT_TABLE])
        clean[ENGAGEMENT_TABLE] = union(engagements)
        unchanged.discard(ENGAGEMENT_TABLE)
    for name, rows in clean.items():
        if name in unchanged:
            copy_clean(land.path / name, staging.path / name)
        else:
            staging.write(rows, name, keys=rows.columns, partitions=partitions)
        staging.facts[f"rows_{name}"] = parquet_rows(staging.path / name)


def copy_clean(landed: Path, clean: Path) -> None:
    """Copy the files of a table whose rows are all good, without where these were read."""
    import pyarrow as pa
    from pyarrow import parquet

    clean.mkdir(parents=True)
    for file in sorted(landed.glob("*.parquet")):
        with parquet.ParquetFile(file) as source:
            schema = source.schema_arrow
            columns = without_provenance(schema.names)
            if columns == schema.names:
                shutil.copy(file, clean / file.name)
                continue
            # Spark's own record of the columns would name those that are gone.
            kept = pa.schema([schema.field(name) for name in columns])
            with parquet.ParquetWriter(clean / file.name, kept, store_schema=False) as target:
                for batch in source.iter_batches(BATCH, columns=columns):
                    target.write_batch(batch)


def engagements_of(impressions: DataFrame, labels: list[str]) -> DataFrame:
    """One engagement for every label that is 1, with the label's name as its kind and the value 1.

    Ids and time are those of the impression.
    """
    from pyspark.sql import functions as F

    ids = ("consumer_id", "producer_id", "item_id", "time_ms")
    named = tuple(F.col(quoted(label)) for label in labels)
    outcomes = impressions.unpivot(ids, named, "label", "happened")
    # Spark's substring counts from 1 and needs a length; no label is this long.
    kind = F.substring("label", len("label_") + 1, 1000).alias("kind")
    value = F.lit(1.0).alias("value")
    return outcomes.where("happened = 1").select("*", kind, value).select(*ENGAGEMENTS)
