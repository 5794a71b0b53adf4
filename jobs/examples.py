"""examples: the day's impressions as a ranker sees them, with nothing in them that was not known before the day.

Counts and rates come from the trusted days of the window before D, row numbers from the newest version of a day before
D. The outcome of D is in the labels and nowhere else (no dwell).

    examples/part-*.parquet    sorted by time, consumer, item
        consumer_id, producer_id, item_id, time_ms        who, what, when
        label_*                                           outcomes, 0/1
        hash_*                                            categories as bucket numbers
        num_*                                             numbers, null where unknown
        consumer_row, producer_row                        into the version named in facts, -1 unknown there
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.registry.client import Version
from embeddings.registry.files import open_files
from jobs.chain import SETTINGS
from jobs.errors import Skip, UntrustedDay
from jobs.lake import Partition
from jobs.publish import open_registry
from jobs.schema import CONSUMER_TABLE, ENGAGEMENT_TABLE, IMPRESSION_TABLE, ITEM_TABLE, with_prefix
from jobs.settings import Settings
from jobs.steps import first_day, trusted, window
from models.features import Categorical, FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

ID_BUCKETS = 16384  # of consumers, producers and items: a table of 16384 x 8 floats each
CATEGORY_BUCKETS = 256  # of any other category
SPEC = "features.json"
ENTITIES = ("consumer", "producer", "item")
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
    profiles = {entity: clean.read(spark, table) for entity, table in PROFILES.items() if clean.has(table)}
    spec = feature_spec(impressions, profiles, settings.embedding.dim)
    features = to_features(impressions, profiles, history(spark, past, spec.labels), spec)
    examples = with_rows(features, version)
    inputs = [clean, *past, *([publication] if publication else [])]
    with settings.lake.writing("examples", day, settings=settings.digest(*SETTINGS), inputs=inputs) as staging:
        keys = ["time_ms", "consumer_id", "item_id", "producer_id", *spec.labels]
        staging.write(examples, "examples", [*keys, *(c.name for c in spec.categorical)], partitions=1)
        staging.facts |= {
            **facts_of(staging.path / "examples", spec.labels),
            "version": version.id if version else "",
            "space": version.space if version else "",
            "days_counted": len(past),
        }
        (staging.path / SPEC).write_text(spec.to_json() + "\n")


# Which days, which version


def past_days(settings: Settings, day: date) -> list[date]:
    """The days of the window before `day`."""
    yesterday = day - timedelta(days=1)
    return window(settings, yesterday, settings.ranker.window_days) if yesterday >= first_day(settings) else []


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


def feature_spec(impressions: DataFrame, profiles: dict[str, DataFrame], vector_dim: int) -> FeatureSpec:
    """The columns that these tables give. A field an id and a context; one for all categories of a profile."""
    labels = with_prefix(impressions.columns, "label_")
    categorical = [Categorical(f"hash_{entity}", ID_BUCKETS, entity) for entity in ENTITIES]
    context = ("hour", *with_prefix(impressions.columns, "ctx_"))
    categorical += [Categorical(f"hash_{c}", CATEGORY_BUCKETS, c) for c in context]
    numeric = []
    for entity, table in profiles.items():
        names = with_prefix(table.columns, "cat_")
        categorical += [Categorical(f"hash_{entity}_{c}", CATEGORY_BUCKETS, f"{entity}_profile") for c in names]
        numeric += [f"num_{entity}_{c.removeprefix('num_')}" for c in with_prefix(table.columns, "num_")]
    past = ("shown", "engaged", *(f"lift_{label.removeprefix('label_')}" for label in labels))
    numeric += [f"num_{entity}_past_{name}" for entity in ENTITIES for name in past]
    return FeatureSpec(tuple(categorical), tuple(numeric), tuple(labels), vector_dim)


def to_features(
    impressions: DataFrame, profiles: dict[str, DataFrame], counts: dict[str, DataFrame], spec: FeatureSpec
) -> DataFrame:
    """Impressions joined with what was known, every column as the model takes it. counts: of `history`."""
    from pyspark.sql import functions as F

    joined = impressions.withColumn("hour", F.pmod(F.floor(F.col("time_ms") / 3_600_000), F.lit(24)))
    for entity, table in profiles.items():
        kept = [c for role in ("cat_", "num_") for c in with_prefix(table.columns, role)]
        renamed = table.select(f"{entity}_id", *(F.col(c).alias(f"{entity}_{c}") for c in kept))
        joined = joined.join(F.broadcast(renamed), f"{entity}_id", "left")
    for entity, table in counts.items():
        joined = joined.join(F.broadcast(table), f"{entity}_id", "left")
    return joined.select(
        *(f"{entity}_id" for entity in ENTITIES),
        "time_ms",
        *(F.col(label).cast("tinyint").alias(label) for label in spec.labels),
        *(bucket(raw_column(c.name), c.buckets).alias(c.name) for c in spec.categorical),
        *(number(name, counts).alias(name) for name in spec.numeric),
    )


def raw_column(hashed: str) -> str:
    """The column behind a hashed one."""
    name = hashed.removeprefix("hash_")
    return f"{name}_id" if name in ENTITIES else name


def bucket(column: str, buckets: int) -> Column:
    """The bucket of a value; null has one of its own choosing, the same every day."""
    from pyspark.sql import functions as F

    return F.pmod(F.xxhash64(F.coalesce(F.col(column).cast("string"), F.lit(""))), F.lit(buckets)).cast("int")


def number(name: str, counts: dict[str, DataFrame]) -> Column:
    """A numeric feature: sign(x)·log(1 + |x|) of profile numbers, history as `history` made it, zero for the unseen."""
    from pyspark.sql import functions as F

    plain = name.removeprefix("num_")
    entity, _, rest = plain.partition("_")
    if rest.startswith("past_"):
        column = F.coalesce(F.col(plain), F.lit(0.0)) if counts else F.lit(0.0)
    else:
        column = F.col(f"{entity}_num_{rest}")
        column = F.signum(column) * F.log1p(F.abs(column))
    return column.cast("float")


# History


def history(spark: SparkSession, past: list[Partition], labels: tuple[str, ...]) -> dict[str, DataFrame]:
    """Per entity, from the given days: log counts and label lifts. Empty without days.

    lift = log((positives + 1) / (expected + 1)), expected = shown · share of that label among all: how much more often
    than usual, 0 where nothing is known, and slow to believe a single event. Everything under the logarithm is a count.
    """
    impressions = [str(p.path / IMPRESSION_TABLE) for p in past if p.has(IMPRESSION_TABLE)]
    engagements = [str(p.path / ENGAGEMENT_TABLE) for p in past if p.has(ENGAGEMENT_TABLE)]
    if not impressions or not engagements:
        return {}
    from pyspark.sql import functions as F

    shown, engaged = spark.read.parquet(*impressions), spark.read.parquet(*engagements)
    totals = shown.agg(F.count("*").alias("shown"), *(F.sum(label).alias(label) for label in labels)).first()
    return {entity: entity_history(shown, engaged, entity, labels, totals) for entity in ENTITIES}


def entity_history(shown: DataFrame, engaged: DataFrame, entity: str, labels: tuple[str, ...], totals) -> DataFrame:
    """One row an id, <entity>_id, with <entity>_past_shown, _engaged (log(1 + count)) and _lift_<label>."""
    from pyspark.sql import functions as F

    key = f"{entity}_id"
    sums = shown.groupBy(key).agg(F.count("*").alias("shown"), *(F.sum(label).alias(label) for label in labels))
    acts = engaged.groupBy(key).agg(F.count("*").alias("engaged"))

    def lift(label: str) -> Column:
        expected = F.col("shown") * F.lit(totals[label]) / F.lit(max(totals["shown"], 1))
        return F.log((F.col(label) + 1) / (expected + 1)).alias(f"{entity}_past_lift_{label.removeprefix('label_')}")

    both = sums.join(acts, key, "full").fillna(0, ["shown", "engaged", *labels]).where(F.col(key).isNotNull())
    logs = [F.log1p(F.col(name)).alias(f"{entity}_past_{name}") for name in ("shown", "engaged")]
    return both.select(key, *logs, *(lift(label) for label in labels))


# Rows of the embedding


def with_rows(features: DataFrame, version: Version | None) -> DataFrame:
    """Add consumer_row and producer_row; the workers search the version's memory-mapped ids."""
    from pyspark.sql import functions as F

    if version is None:
        return features.withColumns({f"{e}_row": F.lit(-1).cast("long") for e in ("consumer", "producer")})
    schema = ", ".join(f"{f.name} {f.dataType.simpleString()}" for f in features.schema.fields)
    return features.mapInArrow(row_finder(str(version.path)), f"{schema}, consumer_row long, producer_row long")


def row_finder(home: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The task: batches in, the same batches with the two row numbers out."""

    def find(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        entities = open_files(Path(home)).entities
        for batch in batches:
            for entity in ("consumer", "producer"):
                ids = batch[f"{entity}_id"].to_pylist()
                batch = batch.append_column(f"{entity}_row", pa.array(entities[entity].rows(ids)))
            yield batch

    return find


# Reading them again


def facts_of(table_path: Path, labels: tuple[str, ...]) -> dict[str, float | int]:
    """Rows, share of rows whose consumer and producer have a vector, share of positives per label."""
    table = pq.read_table(table_path, columns=["consumer_row", "producer_row", *labels])
    rows = table.num_rows
    facts: dict[str, float | int] = {"rows": rows}
    for entity in ("consumer", "producer"):
        known = pc.sum(pc.greater_equal(table[f"{entity}_row"], 0)).as_py() or 0
        facts[f"known_{entity}s"] = known / max(rows, 1)
    for label in labels:
        facts[f"rate_{label.removeprefix('label_')}"] = (pc.sum(table[label]).as_py() or 0) / max(rows, 1)
    return facts


def spec_of(partition: Partition) -> FeatureSpec:
    """The feature spec that a partition of examples was written with."""
    return FeatureSpec.from_json((partition.path / SPEC).read_text())
