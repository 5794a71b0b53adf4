"""The log of the settings in memory, by day: engagements to embed and impressions to rank.

A consumer has the same row and a producer the same column on all days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from jobs.errors import EvergreenError
from jobs.features.columns import feature_spec
from jobs.features.profiles import damped, join_profiles, read_profiles
from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE
from jobs.lake.store import Partition
from jobs.pipeline.running import ensure
from jobs.reports.report import ReportProgress
from jobs.settings import MatrixSettings, Settings, days_between
from jobs.sources import open_source
from jobs.spark.session import spark_session
from models.features import Day, FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Fields that identify the entity: the ranker would learn from them what the vectors should show.
ID_FIELDS = ("consumer", "producer", "item")


@dataclass(frozen=True)
class LoggedDay:
    """One trusted day.

    strengths, events: (n_consumers, n_producers), sums and counts of the day's engagements;
    examples: its impressions without vectors, with the row numbers of the log; None if it has none.
    """

    day: date
    strengths: sp.csr_matrix
    events: sp.csr_matrix
    examples: Day | None


@dataclass(frozen=True)
class Log:
    """The trusted days, oldest first.

    spec: what a ranker reads besides vectors; None if the log has no impressions.
    """

    days: list[LoggedDay]
    spec: FeatureSpec | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.days[0].strengths.shape

    def all_strengths(self) -> sp.csr_matrix:
        """The sum of all days, without the rows of consumers who have no engagement."""
        x = sum(day.strengths for day in self.days).tocsr()
        return x[np.diff(x.indptr) > 0]

    def window(self, last: int, cfg: MatrixSettings) -> tuple[sp.csr_matrix, np.ndarray]:
        """The trailing window of day number `last`, as in the step `matrix`.

        Returns the strengths, (n, m), in which the columns of producers beyond the top N are empty,
        and each consumer's number of engagements with the remaining producers, (n,).
        """
        days = self.days[max(0, last - cfg.window_days + 1) : last + 1]
        x = sum(day.strengths for day in days).tocsr()
        events = sum(day.events for day in days).tocsr()
        # Stable: of equally popular producers the smaller id is kept, as in the step.
        popular = np.argsort(-np.bincount(x.indices, minlength=x.shape[1]), kind="stable")
        kept = np.zeros(x.shape[1])
        kept[popular[: cfg.producers]] = 1
        x = (x @ sp.diags(kept)).tocsr()
        x.eliminate_zeros()
        return x, np.asarray(events @ kept).ravel()


@dataclass(frozen=True)
class EntityIds:
    """All ids of the log, sorted: the position of an id is its row or column."""

    consumers: pd.Index
    producers: pd.Index

    def positions(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """The row and the column of every line of a table; −1 for an id that is missing."""
        rows = self.consumers.get_indexer(table["consumer_id"])
        columns = self.producers.get_indexer(table["producer_id"])
        return rows, columns


def read_log(settings: Settings, progress: ReportProgress, days: list[date] | None = None) -> Log:
    """Read the trusted days, after validating those that have not been validated yet.

    progress: called once per day. days: ascending; default: all of the log. Raises EvergreenError
    if no day is trusted.
    """
    spark = spark_session(settings)
    spec = None
    partitions: list[Partition] = []
    engagements: list[pa.Table] = []
    impressions: list[pa.Table | None] = []  # None on a day without any
    for day in days_of(settings) if days is None else days:
        partition = ensure(settings, "validate", day, lambda: spark).partition
        progress(f"read {day}")
        if not partition.facts["trusted"]:
            continue
        partitions.append(partition)
        columns = ["consumer_id", "producer_id", "kind", "value"]
        engaged = partition.read(spark, ENGAGEMENT_TABLE).select(*columns)
        engagements.append(engaged.toArrow())
        shown = None
        if partition.has(IMPRESSION_TABLE):
            shown, spec = read_impressions(settings, partition, spark)
        impressions.append(shown)
    if not partitions:
        raise EvergreenError(
            "No day of the log is trusted, so there is nothing to measure. "
            "The reports of the step `validate` give the reasons."
        )
    # A row number needs the ids of all days: no matrix can be built before all days are read.
    tables = [table for table in (*engagements, *impressions) if table is not None]
    ids = EntityIds(all_ids(tables, "consumer_id"), all_ids(tables, "producer_id"))
    logged = []
    for partition, engaged, shown in zip(partitions, engagements, impressions, strict=True):
        strengths, events = day_matrices(engaged, ids, settings.matrix.weights)
        examples = None
        if shown is not None and spec is not None:
            examples = day_examples(str(partition.day), shown, spec, ids)
        logged.append(LoggedDay(partition.day, strengths, events, examples))
    return Log(logged, spec)


def days_of(settings: Settings) -> list[date]:
    """All days of the settings' log."""
    first, last = open_source(settings).span()
    return days_between(first, last)


def read_impressions(
    settings: Settings, partition: Partition, spark: SparkSession
) -> tuple[pa.Table, FeatureSpec]:
    """The day's impressions with profile and context, in time order, and the ranker's columns."""
    shown = partition.read(spark, IMPRESSION_TABLE)
    profiles = read_profiles(spark, partition)
    spec = feature_spec(shown, profiles, settings.embedding.dim, settings.ranker.id_buckets)
    joined = join_profiles(shown, profiles, spec).toArrow()
    # The ids make the order unique: training must not depend on the order of Spark's partitions.
    order = [(name, "ascending") for name in ("time_ms", "consumer_id", "item_id")]
    return joined.sort_by(order), without_ids(spec, joined, settings.ranker.primary_label)


def without_ids(spec: FeatureSpec, table: pa.Table, label: str) -> FeatureSpec:
    """Profile and context alone: ids and past counts would hide what the vectors contribute."""
    categorical = tuple(column for column in spec.categorical if column.field not in ID_FIELDS)
    # The table has no past counts, which are computed by the step `examples`.
    numeric = tuple(name for name in spec.numeric if name in table.column_names)
    return FeatureSpec(categorical, numeric, (f"label_{label}",), spec.vector_dim)


def all_ids(tables: list[pa.Table], name: str) -> pd.Index:
    """The distinct values of a column of all tables, sorted."""
    chunks = []
    for table in tables:
        chunks.extend(table[name].chunks)
    return pd.Index(pa.chunked_array(chunks).unique().drop_null()).sort_values()


def day_matrices(
    engaged: pa.Table, ids: EntityIds, weights: dict[str, float]
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Σ weight(kind) · value, and the number of engagements, of every pair.

    Rows with a weight or a value of 0 are no engagements.
    """
    table = engaged.to_pandas().dropna()
    # A kind without a weight has weight 1, as in the step `matrix`.
    strengths = (table["kind"].map(weights).fillna(1.0) * table["value"]).to_numpy()
    counted = strengths > 0
    rows, columns = ids.positions(table[counted])
    shape = (len(ids.consumers), len(ids.producers))
    summed = sp.csr_matrix((strengths[counted], (rows, columns)), shape=shape)
    events = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    return summed, events


def day_examples(name: str, shown: pa.Table, spec: FeatureSpec, ids: EntityIds) -> Day:
    """The impressions as a ranker reads them, still without vectors."""
    rows, columns = ids.positions(shown.select(["consumer_id", "producer_id"]).to_pandas())
    for column in spec.numeric:
        position = shown.column_names.index(column)
        shown = shown.set_column(position, column, damped(shown[column].combine_chunks()))
    shown = shown.append_column("consumer_row", pa.array(rows.astype(np.int64)))
    shown = shown.append_column("producer_row", pa.array(columns.astype(np.int64)))
    no_vectors = np.zeros((0, spec.vector_dim), np.float32)
    return Day.from_table(name, shown, spec, "", no_vectors, no_vectors)
