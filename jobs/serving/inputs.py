"""The inputs of the ranker for rows that were not shown yet, as the step `examples` builds them.

Spark hashes and joins a whole day; these few rows are hashed and joined here. Counts and scales are
the same functions, and tests/jobs/serving compares every value with that of the examples.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.registry.chunked import Rows
from embeddings.registry.client import open_version
from jobs.errors import EvergreenError
from jobs.features.columns import past_columns, profile_column, profile_numbers, raw_column
from jobs.features.lookups import Past as Lookups
from jobs.features.past_counts import ENTITIES
from jobs.features.profiles import damped
from jobs.serving.past import Past
from models.features import Day, FeatureSpec
from models.standalone import bucket

HOUR_MS = 3_600_000


def inputs_of(name: str, rows: pa.Table, past: Past, spec: FeatureSpec) -> Day:
    """The rows as a ranker reads them; their outcomes are unknown, and 0.

    rows: consumer_id, producer_id, item_id, time_ms, and ctx_* where they are known. Raises
    EvergreenError where the profiles lack a column that the ranker reads.
    """
    raw = joined(rows, past.profiles)
    categories = np.empty((len(rows), len(spec.categorical)), np.int64)
    for place, column in enumerate(spec.categorical):
        name_of = raw_column(column.name)
        if name_of not in raw and not name_of.startswith("ctx_"):
            raise missing(column.name)
        categories[:, place] = buckets(raw.get(name_of), len(rows), column.buckets)
    version = past.version
    lookups = Lookups(version, None)
    nothing: Rows = np.zeros((0, spec.vector_dim), dtype=np.float32)
    consumers, producers = nothing, nothing
    if version is not None:
        entities = open_version(version).entities
        consumers, producers = entities["consumer"].vectors, entities["producer"].vectors
    return Day(
        name=name,
        space=version.space if version else "",
        categories=categories,
        numbers=numbers_of(rows, raw, past, spec),
        labels=np.zeros((len(rows), len(spec.labels)), dtype=np.float32),
        consumer_rows=lookups.rows("consumer", rows["consumer_id"].combine_chunks()),
        producer_rows=lookups.rows("producer", rows["producer_id"].combine_chunks()),
        consumer_vectors=consumers,
        producer_vectors=producers,
    )


def joined(rows: pa.Table, profiles: dict[str, pa.Table]) -> dict[str, pa.ChunkedArray]:
    """Column -> its values in every row: ids, hour, context, and the profiles' columns."""
    raw = {name: rows[name] for name in rows.column_names}
    raw["hour"] = pc.cast(hours(rows["time_ms"]), pa.string())
    for entity, table in profiles.items():
        at = pc.index_in(rows[f"{entity}_id"], value_set=table[f"{entity}_id"])
        for name in table.column_names:
            if name.startswith(("cat_", "num_")):
                raw[profile_column(entity, name)] = table[name].take(at)
    return raw


def hours(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """The hour of the day in UTC, 0 to 23."""
    return pa.chunked_array([times.to_numpy() // HOUR_MS % 24])


def buckets(values: pa.ChunkedArray | None, rows: int, count: int) -> np.ndarray:
    """The bucket of every value, (rows,); null, and a column that is not known, are ""."""
    if values is None:
        return np.full(rows, bucket("", count))
    encoded = pc.fill_null(values, "").combine_chunks().dictionary_encode()
    # Each text is hashed once.
    distinct = [bucket(text, count) for text in encoded.dictionary.to_pylist()]
    return np.array(distinct, dtype=np.int64)[encoded.indices.to_numpy()]


def numbers_of(
    rows: pa.Table, raw: dict[str, pa.ChunkedArray], past: Past, spec: FeatureSpec
) -> np.ndarray:
    """(n, N) float32: the numbers of profiles, and what is counted over the past."""
    columns = {}
    for name in profile_numbers(spec):
        if name not in raw:
            raise missing(name)
        columns[name] = damped(raw[name].cast(pa.float64())).to_numpy()
    for entity in ENTITIES:
        counted = past.counts.of(entity, rows[f"{entity}_id"].combine_chunks())
        for place, name in enumerate(past_columns(entity, spec.labels)):
            columns[name] = counted[:, place]
    numbers = np.empty((len(rows), len(spec.numeric)), np.float32)
    for place, name in enumerate(spec.numeric):
        numbers[:, place] = columns[name]
    return numbers


def missing(name: str) -> EvergreenError:
    return EvergreenError(
        f"The ranker reads '{name}', and the profiles of the log have no such column any more. "
        "Train one on the columns of now: run the next day, evergreen run --from DAY --to DAY"
    )
