"""examples: the day's impressions as a ranker sees them, with nothing in them that was not known before the day.

Counts and rates come from the trusted days of the window before D, row numbers from the newest version of a day before
D. The outcome of D is in the labels and nowhere else (no dwell).

    features.json              the columns: models.features.FeatureSpec
    counts/part-*.parquet      what had happened before the day: jobs.features.past_counts
    examples/part-*.parquet    sorted by time, consumer, item
        consumer_id, producer_id, item_id, time_ms        who, what, when
        label_*                                           outcomes, 0/1
        hash_*                                            categories as bucket numbers
        num_*                                             numbers, null where unknown
        consumer_row, producer_row                        into the version named in facts, -1 unknown there
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.registry.client import Version
from embeddings.registry.files import open_files
from jobs.errors import Skip, UntrustedDay
from jobs.features.past_counts import COUNTS, ENTITIES, PastCounts, count_past
from jobs.lake.schema import CONSUMER_TABLE, IMPRESSION_TABLE, ITEM_TABLE, with_prefix
from jobs.lake.store import Partition
from jobs.pipeline.chain import SETTINGS
from jobs.pipeline.plan import first_day, trusted, window
from jobs.settings import Settings
from jobs.steps.publish import open_registry
from models.features import Categorical, FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ID_BUCKETS = 16384  # of consumers, producers and items: a table of 16384 x 8 floats each
CATEGORY_BUCKETS = 256  # of any other category
SPEC = "features.json"
EMBEDDED = ("consumer", "producer")  # entities that have vectors
PROFILES = {"consumer": CONSUMER_TABLE, "item": ITEM_TABLE}


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """Asked for one after the other: which version is needed shows when the days before are validated."""
    yield ("validate", day)
    past = past_days(settings, day)
    yield from (("validate", d) for d in past)
    if past_trusted := trusted(settings, past):
        yield ("publish", past_trusted[-1].day)


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Write the day's examples. Raises Skip for a source without impressions, UntrustedDay when the day was refused."""
    clean = clean_impressions(settings, day)
    past = trusted(settings, past_days(settings, day))
    publication, version = version_before(settings, past) or (None, None)
    impressions = clean.read(spark, IMPRESSION_TABLE)
    profiles = {
        entity: clean.read(spark, table) for entity, table in PROFILES.items() if clean.has(table)
    }
    spec = feature_spec(impressions, profiles, settings.embedding.dim)
    counts = count_past(spark, past, spec.labels)
    inputs = [clean, *past, *([publication] if publication else [])]
    with settings.lake.writing(
        "examples", day, settings=settings.digest(*SETTINGS), inputs=inputs
    ) as staging:
        if counts is not None:
            staging.write(counts, COUNTS, ["entity", "id"])
        known = Known(
            str(version.path) if version else "",
            str(staging.path / COUNTS) if counts is not None else "",
        )
        examples = with_known(join_profiles(impressions, profiles, spec), spec, known)
        context = [c.name for c in spec.categorical if c.field.startswith("ctx_")]
        staging.write(
            examples,
            "examples",
            ["time_ms", "consumer_id", "item_id", "producer_id", *spec.labels, *context],
        )
        (staging.path / SPEC).write_text(spec.to_json() + "\n")
        staging.facts |= {
            **facts_of(staging.path / "examples", spec.labels),
            "version": version.id if version else "",
            "space": version.space if version else "",
            "days_counted": len(past),
        }


# Which days, which version


def past_days(settings: Settings, day: date) -> list[date]:
    """The days of the window before `day`."""
    yesterday = day - timedelta(days=1)
    return (
        window(settings, yesterday, settings.ranker.window_days)
        if yesterday >= first_day(settings)
        else []
    )


def clean_impressions(settings: Settings, day: date) -> Partition:
    """The validated partition of a day that can be ranked on. Raises Skip, UntrustedDay."""
    clean = settings.lake.get("validate", day)
    if not clean.facts["trusted"]:
        raise UntrustedDay(f"No examples for {day}: {clean.facts['reason']}")
    if not clean.has(IMPRESSION_TABLE):
        raise Skip(f"The source has no impressions on {day}: nothing to rank.")
    return clean


def version_before(settings: Settings, past: list[Partition]) -> tuple[Partition, Version] | None:
    """The version of the newest trusted day before, as `publish` committed it; never 'latest'."""
    if not past:
        return None
    publication = settings.lake.get("publish", past[-1].day)
    return publication, published_version(settings, publication.facts["version"])


def published_version(settings: Settings, version_id: str) -> Version:
    """The version that 'author/2022-04-25.r1' names."""
    name, _, reference = version_id.partition("/")
    return open_registry(settings).find(name, reference)


# Features


def feature_spec(
    impressions: DataFrame, profiles: dict[str, DataFrame], vector_dim: int
) -> FeatureSpec:
    """The columns that these tables give. A field an id and a context; one for all categories of a profile."""
    labels = tuple(with_prefix(impressions.columns, "label_"))
    categorical = [Categorical(f"hash_{entity}", ID_BUCKETS, entity) for entity in ENTITIES]
    context = ("hour", *with_prefix(impressions.columns, "ctx_"))
    categorical += [Categorical(f"hash_{c}", CATEGORY_BUCKETS, c) for c in context]
    numeric = []
    for entity, table in profiles.items():
        names = with_prefix(table.columns, "cat_")
        categorical += [
            Categorical(f"hash_{entity}_{c}", CATEGORY_BUCKETS, f"{entity}_profile") for c in names
        ]
        numeric += [
            f"num_{entity}_{c.removeprefix('num_')}" for c in with_prefix(table.columns, "num_")
        ]
    numeric += [
        f"num_{entity}_past_{name}" for entity in ENTITIES for name in PastCounts.features(labels)
    ]
    return FeatureSpec(tuple(categorical), tuple(numeric), labels, vector_dim)


def join_profiles(
    impressions: DataFrame, profiles: dict[str, DataFrame], spec: FeatureSpec
) -> DataFrame:
    """Impressions with their categories hashed, and the profiles' numbers as they are."""
    from pyspark.sql import functions as F

    joined = impressions.selectExpr("*", "pmod(floor(time_ms / 3600000), 24) hour")
    for entity, table in profiles.items():
        kept = [c for role in ("cat_", "num_") for c in with_prefix(table.columns, role)]
        renamed = table.selectExpr(
            f"{entity}_id", *(f"`{c}` `{profile_column(entity, c)}`" for c in kept)
        )
        joined = joined.join(F.broadcast(renamed), f"{entity}_id", "left")
    return joined.selectExpr(
        *(f"{entity}_id" for entity in ENTITIES),
        "time_ms",
        *(f"cast(`{label}` as tinyint) `{label}`" for label in spec.labels),
        *(f"{bucket(raw_column(c.name), c.buckets)} `{c.name}`" for c in spec.categorical),
        *(f"cast(`{name}` as double) `{name}`" for name in profile_numbers(spec)),
    )


def profile_column(entity: str, column: str) -> str:
    """What a profile's column is called beside those of the other profile."""
    return (
        f"num_{entity}_{column.removeprefix('num_')}"
        if column.startswith("num_")
        else f"{entity}_{column}"
    )


def profile_numbers(spec: FeatureSpec) -> list[str]:
    """The numeric features that come from a profile instead of from the past."""
    past = {
        f"num_{entity}_past_{name}"
        for entity in ENTITIES
        for name in PastCounts.features(spec.labels)
    }
    return [name for name in spec.numeric if name not in past]


def raw_column(hashed: str) -> str:
    """The column behind a hashed one."""
    name = hashed.removeprefix("hash_")
    return f"{name}_id" if name in ENTITIES else name


def bucket(column: str, buckets: int) -> str:
    """The bucket of a value, as SQL; a missing value has the bucket of the empty text."""
    return f"cast(pmod(xxhash64(coalesce(cast(`{column}` as string), '')), {buckets}) as int)"


# What the workers look up


@dataclass(frozen=True)
class Known:
    """Where the workers find what was known before the day; '' where there is nothing."""

    version: str  # folder of the embedding's version
    counts: str  # folder of the counts

    def rows(self, entity: str, ids: pa.Array) -> np.ndarray:
        """Row of each id in the version, -1 unknown."""
        if not self.version:
            return np.full(len(ids), -1)
        return (
            open_files(Path(self.version)).entities[entity].rows(ids.to_numpy(zero_copy_only=False))
        )


def with_known(joined: DataFrame, spec: FeatureSpec, known: Known) -> DataFrame:
    """Numbers of profile and past, and the rows of the embedding, added to the joined impressions."""
    numbers = profile_numbers(spec)
    kept = [
        f"`{f.name}` {f.dataType.simpleString()}"
        for f in joined.schema.fields
        if f.name not in numbers
    ]
    added = [f"`{name}` float" for name in spec.numeric] + [
        f"{entity}_row long" for entity in EMBEDDED
    ]
    return joined.mapInArrow(lookup(spec, known), ", ".join([*kept, *added]))


def lookup(
    spec: FeatureSpec, known: Known
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The task: joined impressions in, examples out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        history = PastCounts.read(Path(known.counts) if known.counts else None, spec.labels)
        numbers = profile_numbers(spec)
        for batch in batches:
            columns = {name: batch[name] for name in batch.schema.names if name not in numbers}
            columns |= {name: damped(batch[name]) for name in numbers}
            for entity in ENTITIES:
                past = history.of(entity, batch[f"{entity}_id"])
                columns |= {
                    f"num_{entity}_past_{n}": past[:, i]
                    for i, n in enumerate(PastCounts.features(spec.labels))
                }
            columns |= {
                f"{entity}_row": known.rows(entity, batch[f"{entity}_id"]) for entity in EMBEDDED
            }
            yield pa.RecordBatch.from_pydict(columns)

    return run


def damped(numbers: pa.Array) -> pa.Array:
    """sign(x) · log(1 + |x|) as float, null where x is."""
    return pc.multiply(pc.sign(numbers), pc.log1p(pc.abs(numbers))).cast(pa.float32())


# Reading them again


def facts_of(table_path: Path, labels: tuple[str, ...]) -> dict[str, float | int]:
    """Rows, share of rows whose consumer and producer have a vector, share of positives per label."""
    table = pq.read_table(table_path, columns=["consumer_row", "producer_row", *labels])
    rows = table.num_rows
    facts: dict[str, float | int] = {"rows": rows}
    for entity in EMBEDDED:
        known = pc.sum(pc.greater_equal(table[f"{entity}_row"], 0)).as_py() or 0
        facts[f"known_{entity}s"] = known / max(rows, 1)
    for label in labels:
        facts[f"rate_{label.removeprefix('label_')}"] = (pc.sum(table[label]).as_py() or 0) / max(
            rows, 1
        )
    return facts


def spec_of(partition: Partition) -> FeatureSpec:
    """The feature spec that a partition of examples was written with."""
    return FeatureSpec.from_json((partition.path / SPEC).read_text())
