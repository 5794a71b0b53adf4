"""The log of the settings, day by day, in memory: engagements to embed and impressions to rank.

Rows of consumers and columns of producers have the same numbers on all days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from jobs.errors import EvergreenError
from jobs.features.columns import feature_spec
from jobs.features.profiles import PROFILES, damped, join_profiles
from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE
from jobs.lake.store import Partition
from jobs.pipeline.plan import ensure
from jobs.settings import MatrixSettings, Settings, days_between
from jobs.sources import open_source
from jobs.spark.session import LazySession
from models.features import Day, FeatureSpec

ENTITIES = ("consumer_id", "producer_id")
OF_IDS = (
    "consumer",
    "producer",
    "item",
)  # fields that tell who somebody is: they would hide what the vectors tell


@dataclass(frozen=True)
class LoggedDay:
    """One trusted day. strengths, events: (n_consumers, n_producers), sums and counts of the day's engagements."""

    day: date
    strengths: sp.csr_matrix
    events: sp.csr_matrix
    examples: (
        Day | None
    )  # its impressions without vectors, rows numbered as here; None on a day without any


@dataclass(frozen=True)
class Log:
    """The trusted days, oldest first. spec: what a ranker reads besides vectors, None without impressions."""

    days: list[LoggedDay]
    spec: FeatureSpec | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.days[0].strengths.shape

    def whole(self) -> sp.csr_matrix:
        """All engagements of the log; consumers without any are left out."""
        x = sum(day.strengths for day in self.days).tocsr()
        return x[np.diff(x.indptr) > 0]

    def window(self, last: int, cfg: MatrixSettings) -> tuple[sp.csr_matrix, np.ndarray]:
        """The matrix of day number `last` as the step `matrix` lays it out: strengths of the trailing window, (n, m).

        Producers beyond the top N have empty columns. Also how many engagements each consumer has in it, (n,).
        """
        days = self.days[max(0, last - cfg.window_days + 1) : last + 1]
        x, events = (
            sum(getattr(day, name) for day in days).tocsr() for name in ("strengths", "events")
        )
        popular = np.argsort(-np.bincount(x.indices, minlength=x.shape[1]), kind="stable")
        kept = np.zeros(x.shape[1])
        kept[popular[: cfg.producers]] = 1
        x = (x @ sp.diags(kept)).tocsr()
        x.eliminate_zeros()
        return x, np.asarray(events @ kept).ravel()


def read_log(settings: Settings, tell: Callable[[str], None]) -> Log:
    """Validate the days where they are not yet, and read the trusted ones. tell: called once a day of the log."""
    spark, days, spec = LazySession(settings), [], None
    tables: list[tuple[Partition, pa.Table, pa.Table | None]] = []
    for day in days_of(settings):
        partition = ensure(settings, "validate", day, lambda: spark)
        tell(f"read {day}")
        if not partition.facts["trusted"]:
            continue
        shown = None
        if partition.has(IMPRESSION_TABLE):
            shown, spec = impressions(settings, partition, spark)
        columns = [*ENTITIES, "kind", "value"]
        tables.append(
            (partition, partition.read(spark, ENGAGEMENT_TABLE).select(*columns).toArrow(), shown)
        )
    if not tables:
        raise EvergreenError(
            "No day of the log is trusted: nothing to measure. See the reports of `validate`."
        )
    ids = [
        all_ids([table for _, *pair in tables for table in pair if table is not None], name)
        for name in ENTITIES
    ]
    for partition, engaged, shown in tables:
        strengths, events = day_matrices(engaged, ids, settings.matrix.weights)
        examples = (
            day_examples(str(partition.day), shown, spec, ids)
            if shown is not None and spec
            else None
        )
        days.append(LoggedDay(partition.day, strengths, events, examples))
    return Log(days, spec)


def days_of(settings: Settings) -> list[date]:
    return days_between(*open_source(settings).span())


def impressions(
    settings: Settings, partition: Partition, spark: LazySession
) -> tuple[pa.Table, FeatureSpec]:
    """The day's impressions with profile and context, in time order, and the columns that a ranker reads."""
    shown = partition.read(spark, IMPRESSION_TABLE)
    profiles = {
        entity: partition.read(spark, table)
        for entity, table in PROFILES.items()
        if partition.has(table)
    }
    spec = feature_spec(shown, profiles, settings.embedding.dim)
    table = join_profiles(shown, profiles, spec).toArrow()
    order = [(name, "ascending") for name in ("time_ms", "consumer_id", "item_id")]
    return table.sort_by(order), without_ids(spec, table, settings.ranker.primary_label)


def without_ids(spec: FeatureSpec, table: pa.Table, label: str) -> FeatureSpec:
    """Profile and context alone: neither who it is nor what was counted, since either hides what the vectors tell."""
    categorical = tuple(column for column in spec.categorical if column.field not in OF_IDS)
    numeric = tuple(name for name in spec.numeric if name in table.column_names)
    return FeatureSpec(categorical, numeric, (f"label_{label}",), spec.vector_dim)


def all_ids(tables: list[pa.Table], name: str) -> pd.Index:
    """Every id of the log, sorted."""
    return pd.Index(
        pa.chunked_array([c for table in tables for c in table[name].chunks]).unique().drop_null()
    ).sort_values()


def day_matrices(
    engaged: pa.Table, ids: list[pd.Index], weights: dict[str, float]
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Σ weight(kind) · value and the number of engagements of every pair; what weighs nothing is no engagement."""
    table = engaged.to_pandas().dropna()
    strength = (table["kind"].map(weights).fillna(1.0) * table["value"]).to_numpy()
    pairs = tuple(
        index.get_indexer(table[name])[strength > 0]
        for index, name in zip(ids, ENTITIES, strict=True)
    )
    shape = (len(ids[0]), len(ids[1]))
    summed = (
        sp.csr_matrix((v, pairs), shape=shape)
        for v in (strength[strength > 0], np.ones(len(pairs[0])))
    )
    return tuple(summed)  # type: ignore[return-value]


def day_examples(name: str, shown: pa.Table, spec: FeatureSpec, ids: list[pd.Index]) -> Day:
    """The impressions as a ranker takes them; vectors are added when it is known whose."""
    for column in spec.numeric:
        position = shown.column_names.index(column)
        shown = shown.set_column(position, column, damped(shown[column].combine_chunks()))
    rows = (
        index.get_indexer(shown[entity].to_pandas())
        for index, entity in zip(ids, ENTITIES, strict=True)
    )
    for entity, numbers in zip(ENTITIES, rows, strict=True):
        shown = shown.append_column(
            entity.replace("_id", "_row"), pa.array(numbers.astype(np.int64))
        )
    nothing = np.zeros((0, spec.vector_dim), np.float32)
    return Day.from_table(name, shown, spec, "", nothing, nothing)
