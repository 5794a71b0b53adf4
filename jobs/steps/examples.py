"""examples: the day's impressions as a ranker reads them; only labels depend on the day's outcome.

Counts and rates come from the trusted days of the window before D, row numbers from the version of
the newest of these days. The outcome of D is in the labels and nowhere else (dwell is left out).

    features.json              the columns: models.features.FeatureSpec
    counts/part-*.parquet      what had happened before the day: jobs.features.past_counts
    examples/part-*.parquet    sorted by time, consumer, item; a long day is cut into several
                               stretches of time (see `jobs.features.stretches`)
        consumer_id, producer_id, item_id, time_ms        who, what, when
        label_*                                           outcomes, 0/1
        hash_*                                            categories as bucket numbers
        num_*                                             numbers, null where unknown
        consumer_row, producer_row                        into the version in the facts, -1 unknown
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.facts import Fact
from jobs.errors import Skip, UntrustedDay
from jobs.features.columns import feature_spec
from jobs.features.lookups import EMBEDDED, Past, lookup_task
from jobs.features.past_counts import COUNTS, count_past
from jobs.features.profiles import join_profiles, read_profiles
from jobs.features.stretches import cut_by_time
from jobs.features.tables import publish_counts
from jobs.lake.schema import IMPRESSION_TABLE
from jobs.lake.store import Partition
from jobs.lake.worker_parts import write_by_workers
from jobs.pipeline import chain
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import Reads, reads, recording, trusted
from jobs.pipeline.provenance import airflow_run, code_commit
from jobs.pipeline.published import published_version
from jobs.pipeline.running import nothing_happened
from jobs.pipeline.tracking.runs import active_run_id
from jobs.settings import Settings
from models.features import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EXAMPLES = "examples"
SPEC = "features.json"

SETTINGS = chain.SETTINGS
FORMAT = 2
SPARK = True
FACTS = (
    Fact("rows", "impressions of the day", "rows"),
    Fact("known_consumers", "rows whose consumer has a vector", "share", better="higher"),
    Fact("known_producers", "rows whose producer has a vector", "share", better="higher"),
    Fact("rate_<label>", "rows in which the label is positive", "share"),
    Fact("version", "version of the embedding that the rows point into", headline=True),
    Fact("space", "space of that version", headline=True),
    Fact("days_counted", "trusted days behind the counts of the past", "days"),
)


def needs(settings: Settings, day: date) -> Needs[None]:
    """The day, the days before it, and the newest version of these.

    A generator, because the version that is needed depends on which of the days are trusted: they
    are validated before the version is requested. Where it is missing, an older one is used.
    """
    yield ("validate", day)
    past = []
    for earlier in chain.days_counted(settings, day):
        there = yield optional("validate", earlier)
        if there and trusted(settings.lake.get("validate", earlier)):
            past.append(earlier)
    for earlier in reversed(past):
        if (yield optional("publish", earlier)):
            return


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Write the day's examples.

    Raises Skip for a day without impressions, UntrustedDay where validation refused the day.
    """
    read = reads(settings, "examples", day)
    clean = clean_impressions(read, day)
    past = trusted_before(read, day)
    publication = publication_in(read)
    # The version of a fixed day, never "latest": a backfill must give the bytes of the nightly run.
    version = None
    if publication is not None:
        version = published_version(settings, publication.facts["version"])
    impressions = clean.read(spark, IMPRESSION_TABLE)
    profiles = read_profiles(spark, clean)
    spec = feature_spec(impressions, profiles, settings.embedding.dim, settings.ranker.id_buckets)
    counts = count_past(spark, past, spec.labels)
    joined = join_profiles(impressions, profiles, spec)
    cut, parts = cut_by_time(joined, impressions, clean.facts[f"rows_{IMPRESSION_TABLE}"])
    with recording(settings, "examples", day, read.values()) as staging:
        counts_path: Path | None = None
        if counts is not None:
            staging.write(counts, COUNTS, ["entity", "id"])
            # Committed later, but the workers read it now.
            counts_path = staging.path / COUNTS
        task = lookup_task(spec, Past(version, counts_path))
        # Sorted by time, because the ranker trains in the order of the rows.
        write_by_workers(cut, task, staging.path / EXAMPLES, total_order(spec), parts)
        (staging.path / SPEC).write_text(spec.to_json() + "\n")
        if counts_path is not None:
            with staging.fenced():
                publish_counts(settings.open_registry(), day, counts_path, lineage_of(read))
        staging.facts |= facts_of(staging.path / EXAMPLES, spec.labels)
        staging.facts |= {
            "version": publication.facts["version"] if publication else "",
            "space": version.space if version else "",
            "days_counted": len(past),
        }


def lineage_of(read: Reads) -> dict[str, Any]:
    """What the tables of features are made of."""
    return {
        "commit": code_commit(),
        "mlflow_run": active_run_id(),
        "airflow_run": airflow_run(),
        "inputs": {partition.key: partition.digest for partition in read.values()},
    }


def total_order(spec: FeatureSpec) -> list[str]:
    """Columns that order the rows totally, so that the same rows give the same bytes.

    Rows that are equal in all of these have the same ids, too, and so the same values everywhere.
    """
    context = [c.name for c in spec.categorical if c.field.startswith("ctx_")]
    return ["time_ms", "consumer_id", "item_id", "producer_id", *spec.labels, *context]


# Which days, which version


def clean_impressions(read: Reads, day: date) -> Partition:
    """The validated partition of a day that can be ranked. Raises Skip, UntrustedDay."""
    clean = read["validate", day]
    if not trusted(clean):
        if clean.facts.get("empty"):
            raise Skip(nothing_happened(day))
        raise UntrustedDay(f"No examples for {day}: {clean.facts['reason']}")
    if not chain.rankable(clean):
        raise Skip(f"The source has no impressions on {day}: nothing to rank.")
    return clean


def trusted_before(read: Reads, day: date) -> list[Partition]:
    """The trusted verdicts on the days before `day`, oldest first."""
    found = []
    for (step, earlier), partition in read.items():
        if step == "validate" and earlier < day and trusted(partition):
            found.append(partition)
    return found


def publication_in(read: Reads) -> Partition | None:
    """The partition of `publish`; None where no day before has one."""
    for (step, _), partition in read.items():
        if step == "publish":
            return partition
    return None


# What was written


def facts_of(table_path: Path, labels: tuple[str, ...]) -> dict[str, float | int]:
    """Number of rows, share of rows with a vector per entity, share of positives per label."""
    rows = 0
    counts = dict.fromkeys([*(f"known_{entity}s" for entity in EMBEDDED), *labels], 0)
    for file in sorted(table_path.glob("*.parquet")):
        table = pq.read_table(file, columns=[*(f"{entity}_row" for entity in EMBEDDED), *labels])
        rows += table.num_rows
        for entity in EMBEDDED:
            has_vector = pc.greater_equal(table[f"{entity}_row"], 0)
            counts[f"known_{entity}s"] += pc.sum(has_vector).as_py() or 0  # no rows: null
        for label in labels:
            counts[label] += pc.sum(table[label]).as_py() or 0
    facts: dict[str, float | int] = {"rows": rows}
    for name, count in counts.items():
        rate = f"rate_{name.removeprefix('label_')}" if name in labels else name
        facts[rate] = count / max(rows, 1)
    return facts


def spec_of(partition: Partition) -> FeatureSpec:
    """The feature spec that a partition of examples was written with."""
    return FeatureSpec.from_json((partition.path / SPEC).read_text())
