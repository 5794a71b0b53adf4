"""What was known before a day, read from the lake without Spark: events, counts, profiles, vectors.

A ranker that serves on day D sees exactly what the `examples` of D would have: the trusted days of
the window before D, profiles as known on D, and vectors that were published before D.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.registry.client import Version
from jobs.errors import NotCommitted
from jobs.features.past_counts import COUNTS, ENTITIES, PastCounts
from jobs.features.profiles import PROFILES
from jobs.lake.buckets import bucket_of
from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE, with_prefix
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import trusted
from jobs.pipeline.published import own_version, published_version
from jobs.settings import Settings

EVENTS = {IMPRESSION_TABLE: "shown", ENGAGEMENT_TABLE: "engaged"}  # table -> what it counts as
COLUMNS = ("consumer_id", "producer_id", "item_id", "time_ms")


@dataclass(frozen=True)
class Past:
    """What is known on a day.

    days: the trusted verdicts on the days before it, oldest first. counts: of these days. items:
    item_id, producer_id and first_ms (when it first occurred) of every item in them. profiles: by
    entity. version: of the vectors that the ranker reads; None for none.
    """

    days: list[Partition]
    counts: PastCounts
    items: pa.Table
    profiles: dict[str, pa.Table]
    version: Version | None


def past_of(settings: Settings, day: date, model: Partition, labels: tuple[str, ...]) -> Past:
    """What a ranker of these labels may know on a day. Raises NotCommitted without any day before.

    model: the ranker's partition of `train`.
    """
    days = chain.trusted_days_counted(settings, day)
    if not days:
        raise NotCommitted(
            f"Nothing is known before {day}: no day of the {settings.ranker.window_days} before it "
            "is validated and trusted. Run these days: evergreen run --from DAY --to DAY"
        )
    return Past(
        days=days,
        counts=counts_of(settings, day, days, labels),
        items=items_of(days),
        profiles=profiles_on(settings, day, days),
        version=version_for(settings, days, model),
    )


# Events


def events(days: list[Partition], labels: tuple[str, ...] = ()) -> Iterator[tuple[str, pa.Table]]:
    """The name and the rows of each table of events, one day at a time; impressions with labels."""
    for partition in days:
        for table in EVENTS:
            if partition.has(table):
                columns = [*COLUMNS, *(labels if table == IMPRESSION_TABLE else ())]
                yield table, pq.read_table(partition.path / table, columns=columns)


def events_of_consumer(days: list[Partition], consumer: str) -> dict[str, pa.Table]:
    """Table -> the consumer's rows of it, oldest first; only files that may have some are read."""
    found = {}
    for table in EVENTS:
        schema = pa.schema(dict.fromkeys(COLUMNS[:3], pa.string()) | {"time_ms": pa.int64()})
        parts = [schema.empty_table()]
        for partition in days:
            for part in partition.parts(table):
                if part.meets(bucket_of(consumer.encode(), part.of), part.of):
                    wanted = pc.field("consumer_id") == consumer
                    parts.append(pq.read_table(part.path, columns=list(COLUMNS), filters=wanted))
        found[table] = pa.concat_tables(parts).sort_by("time_ms")
    return found


def items_of(days: list[Partition]) -> pa.Table:
    """item_id, producer_id and first_ms of every item; of a source without times, null."""
    parts = []
    for _, rows in events(days):
        known = rows.filter(pc.is_valid(rows["item_id"]))
        first = known.group_by(["item_id", "producer_id"]).aggregate([("time_ms", "min")])
        parts.append(first.select(["item_id", "producer_id", "time_ms_min"]))
    whole = pa.concat_tables(parts).rename_columns(["item_id", "producer_id", "time"])
    first = whole.group_by(["item_id", "producer_id"]).aggregate([("time", "min")])
    return first.select(["item_id", "producer_id", "time_min"]).rename_columns(
        ["item_id", "producer_id", "first_ms"]
    )


# Counts


def counts_of(
    settings: Settings, day: date, days: list[Partition], labels: tuple[str, ...]
) -> PastCounts:
    """The counts of these days: those of the day's examples where there are some of the same days.

    Otherwise, as for a day that has not begun, they are counted here.
    """
    examples = settings.lake.find("examples", day)
    if examples is not None and examples.has(COUNTS):
        same = all(examples.inputs.get(partition.key) == partition.digest for partition in days)
        if same and examples.facts["days_counted"] == len(days):
            return PastCounts.read(settings.lake.get("examples", day).path / COUNTS, labels)
    return PastCounts(counted_events(days, labels), labels)


def counted_events(days: list[Partition], labels: tuple[str, ...]) -> pa.Table:
    """As `jobs.features.past_counts.count_past`: entity, id, shown, engaged and label_*."""
    numbers = ["shown", "engaged", *labels]
    parts = []
    for table, rows in events(days, labels):
        for entity in ENTITIES:
            columns: dict[str, pa.ChunkedArray] = {"id": rows[f"{entity}_id"]}
            for name in numbers:
                if table == IMPRESSION_TABLE and name in labels:
                    columns[name] = rows[name].cast(pa.int64())
                else:
                    one = int(EVENTS[table] == name)
                    columns[name] = pa.chunked_array([pa.array([one] * len(rows), pa.int64())])
            parts.append(summed(pa.table(columns), numbers, entity))
    whole = pa.concat_tables(parts)
    counts = []
    for entity in ENTITIES:
        counts.append(summed(whole.filter(pc.equal(whole["entity"], entity)), numbers, entity))
    return pa.concat_tables(counts)


def summed(rows: pa.Table, numbers: list[str], entity: str) -> pa.Table:
    """The sums of the numbers by id, without rows of no id."""
    known = rows.filter(pc.is_valid(rows["id"]))
    sums = known.group_by("id").aggregate([(name, "sum") for name in numbers])
    table = sums.select(["id", *(f"{name}_sum" for name in numbers)])
    table = table.rename_columns(["id", *numbers])
    return table.add_column(0, "entity", pa.array([entity] * len(table), pa.string()))


# Profiles and vectors


def profiles_on(settings: Settings, day: date, days: list[Partition]) -> dict[str, pa.Table]:
    """The profiles as known on the day, by entity; the newest before it where it has none yet."""
    verdict = settings.lake.find("validate", day)
    if verdict is not None and trusted(verdict):
        newest = settings.lake.get("validate", day)
    else:
        newest = days[-1]
    profiles = {}
    for entity, table in PROFILES.items():
        if newest.has(table):
            profiles[entity] = pq.read_table(newest.path / table)
    return profiles


def version_for(settings: Settings, days: list[Partition], model: Partition) -> Version | None:
    """The version that a ranker reads: the newest before the day, or its own of an older space."""
    space = model.facts["space"]
    for partition in reversed(days):
        publication = settings.lake.find("publish", partition.day)
        if publication is None:
            continue
        if space and publication.facts["space"] != space:
            return own_version(settings, model)
        return published_version(settings, publication.facts["version"])
    return None


def contexts_of(days: list[Partition]) -> list[str]:
    """The names of the context columns of the impressions, without "ctx_"."""
    for partition in reversed(days):
        for part in partition.parts(IMPRESSION_TABLE):
            columns = with_prefix(pq.read_schema(part.path).names, "ctx_")
            return [name.removeprefix("ctx_") for name in columns]
    return []
