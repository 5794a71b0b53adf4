"""lookalike: the mean vector of every group of consumers, for new users without engagements.

    group/shard-00000/{ids,vectors,counts,folded}.npy   ids: "user_active_degree=full_active", …

A group is one value of a category in the profiles; its count is its number of consumers. Without
profiles, or if every group is too small, there is no folder. Each task reads one file of profiles
and sums the vectors of its groups; Spark carries the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.facts import Fact
from embeddings.kernels.group_sums import group_sums
from embeddings.lookalike import centroids
from embeddings.registry.shards import read_shards, write_shard
from embeddings.registry.vectors import Index, Vectors, encode_ids
from jobs.lake.schema import CONSUMER_TABLE, with_prefix
from jobs.pipeline.plan import writing
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
FORMAT = 1
SPARK = True
FACTS = (Fact("groups", "groups of consumers with a mean vector", "groups"),)
GROUPS = "group"  # the entity, and the folder of its shard
MIN_CONSUMERS = 20  # the mean of a smaller group describes its members, not newcomers
GROUP_SUMS = "path string, id string, consumers long, total array<double>"
Batches = Iterator[pa.RecordBatch]


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("validate", day), ("fold_in", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Average the day's consumers by their profiles of that day."""
    clean = settings.lake.get("validate", day)
    folded = settings.lake.get("fold_in", day)
    with writing(settings, "lookalike", day) as staging:
        profiles = sorted((clean.path / CONSUMER_TABLE).glob("*.parquet"))
        groups = group_centroids(spark, profiles, folded.path / "consumer")
        if groups is not None:
            write_shard(staging.path / GROUPS, 0, groups)
        staging.facts["groups"] = 0 if groups is None else len(groups.ids)


def group_centroids(
    spark: SparkSession, profiles: list[Path], consumers: Path, min_consumers: int = MIN_CONSUMERS
) -> Vectors | None:
    """The mean vector of each group of at least `min_consumers`; None where there is no such group.

    profiles: Parquet files of the table `consumers`. consumers: the folder of their shards. A
    consumer without a profile, without a vector or with a vector of zeros is in no group.
    """
    if not profiles:
        return None
    paths = [(str(path),) for path in profiles]
    files = spark.createDataFrame(paths, "path string").repartition(len(paths))
    table = files.mapInArrow(file_summer(consumers), GROUP_SUMS).toArrow()
    # Sorted, so that floating-point sums are added in one order whatever order the tasks end in.
    table = table.sort_by([("path", "ascending"), ("id", "ascending")])
    if not table.num_rows:
        return None
    ids, group = np.unique(encode_ids(table["id"].to_numpy()), return_inverse=True)
    # All lists have the length of a vector, so their flat values are a matrix, (rows, k).
    parts = table["total"].combine_chunks().values.to_numpy().reshape(table.num_rows, -1)
    sums = np.zeros((len(ids), parts.shape[1]))
    sizes = np.zeros(len(ids), np.int64)
    # Not `sums[group] += parts`, which would add only one of several rows of a group.
    np.add.at(sums, group, parts)
    np.add.at(sizes, group, table["consumers"].to_numpy())
    large = sizes >= min_consumers
    if not large.any():
        return None
    means = centroids(sums, sizes)[large]
    counts = sizes[large].astype(np.int32)
    return Vectors(ids[large], means, counts, np.ones(len(counts), bool))


def file_summer(consumers: Path) -> Callable[[Batches], Batches]:
    """The task: takes names of profile files, returns the sums of their groups."""

    def run(batches: Batches) -> Batches:
        shards = [shard for shard in read_shards(consumers) if len(shard.ids)]
        for batch in batches:
            for path in batch["path"].to_pylist():
                for ids, sums, sizes in file_sums(path, shards):
                    known = np.flatnonzero(sizes)  # groups of which some consumer has a vector
                    totals = pa.array(list(sums[known]), pa.list_(pa.float64()))
                    yield pa.record_batch(
                        {
                            "path": [path] * len(known),
                            "id": [ids[group] for group in known],
                            "consumers": sizes[known],
                            "total": totals,
                        }
                    )

    return run


def file_sums(
    path: str, shards: list[Vectors]
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """For every category of a profile file: ids of its groups, sums and sizes of their members."""
    columns = with_prefix(pq.read_schema(path).names, "cat_")
    table = pq.read_table(path, columns=["consumer_id", *columns])
    profiled = encode_ids(table["consumer_id"].to_numpy())
    rows_of_shards = [Index(shard.ids).find(profiled) for shard in shards]
    for column in columns:
        values = table[column].combine_chunks().dictionary_encode()
        # A consumer without a value is in no group, which is code -1.
        codes = values.indices.fill_null(-1).to_numpy().astype(np.int64)
        category = column.removeprefix("cat_")
        ids = [f"{category}={value}" for value in values.dictionary.to_pylist()]
        shard_sums = []
        shard_sizes = []
        for rows, shard in zip(rows_of_shards, shards, strict=True):
            groups = groups_by_row(rows, codes, len(shard.ids))
            sums, sizes = group_sums(shard.vectors, groups, len(ids))
            shard_sums.append(sums)
            shard_sizes.append(sizes)
        yield ids, np.sum(shard_sums, axis=0), np.sum(shard_sizes, axis=0)


def groups_by_row(rows: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """The group of each of a shard's n rows, -1 for none.

    rows: (m,), the shard's row of each profile, -1 where it has none. codes: (m,), each profile's
    group.
    """
    groups = np.full(n, -1)
    known = rows >= 0
    groups[rows[known]] = codes[known]
    return groups
