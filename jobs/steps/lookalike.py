"""lookalike: the mean vector of every group of consumers, for people who have engaged with nothing yet.

    group/shard-00000/{ids,vectors,counts,folded}.npy     ids: "user_active_degree=full_active"; counts: its consumers

A group is a value of one of the profiles' categories. Without profiles, or with none behind enough consumers, there is
no folder. Each task sums one file of profiles over the consumers' shards; Spark carries the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.kernels.group_sums import group_sums
from embeddings.lookalike import centroids
from embeddings.registry.shards import read_shards, write_shard
from embeddings.registry.vectors import Index, Vectors, encode_ids
from jobs.lake.schema import CONSUMER_TABLE, with_prefix
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
GROUPS = "group"  # the entity, and the folder of its shard
MIN_CONSUMERS = 20  # a smaller group's mean says more about its few than about the next of them


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("validate", day), ("fold_in", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """The day's consumers averaged by their profiles of that day."""
    clean, folded = settings.lake.get("validate", day), settings.lake.get("fold_in", day)
    with settings.lake.writing(
        "lookalike", day, settings=settings.digest(*SETTINGS), inputs=[clean, folded]
    ) as staging:
        profiles = sorted((clean.path / CONSUMER_TABLE).glob("*.parquet"))
        groups = group_centroids(spark, profiles, folded.path / "consumer")
        if groups is not None:
            write_shard(staging.path / GROUPS, 0, groups)
        staging.facts |= {"groups": 0 if groups is None else len(groups.ids)}


def group_centroids(
    spark: SparkSession, profiles: list[Path], consumers: Path, min_consumers: int = MIN_CONSUMERS
) -> Vectors | None:
    """The mean vector of each group of at least `min_consumers`; None where there is none.

    profiles: Parquet files of the table `consumers`. consumers: the folder of their shards. A consumer without a
    profile, without a vector or with a vector of zeros is in no group.
    """
    if not profiles:
        return None
    files = spark.createDataFrame([(str(path),) for path in profiles], "path string").repartition(
        len(profiles)
    )
    table = files.mapInArrow(
        summer(consumers), "path string, id string, consumers long, total array<double>"
    ).toArrow()
    table = table.sort_by(
        [("path", "ascending"), ("id", "ascending")]
    )  # so that they are added in one order
    if not table.num_rows:
        return None
    ids, at = np.unique(encode_ids(table["id"].to_numpy()), return_inverse=True)
    parts = table["total"].combine_chunks().values.to_numpy().reshape(table.num_rows, -1)
    sums, sizes = np.zeros((len(ids), parts.shape[1])), np.zeros(len(ids), np.int64)
    np.add.at(sums, at, parts)
    np.add.at(sizes, at, table["consumers"].to_numpy())
    if not (large := sizes >= min_consumers).any():
        return None
    return Vectors(
        ids[large],
        centroids(sums, sizes)[large],
        sizes[large].astype(np.int32),
        np.ones(large.sum(), bool),
    )


def summer(consumers: Path) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The task: names of profile files in, the sums of their groups out."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        shards = [shard for shard in read_shards(consumers) if len(shard.ids)]
        for batch in batches:
            for path in batch["path"].to_pylist():
                for ids, sums, sizes in file_sums(path, shards):
                    seen = np.flatnonzero(sizes)
                    yield pa.record_batch(
                        {
                            "path": [path] * len(seen),
                            "id": [ids[group] for group in seen],
                            "consumers": sizes[seen],
                            "total": pa.array(list(sums[seen]), pa.list_(pa.float64())),
                        }
                    )

    return run


def file_sums(
    path: str, shards: list[Vectors]
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """For every category of a file of profiles: its groups' ids, and the sums and sizes of their consumers."""
    columns = with_prefix(pq.read_schema(path).names, "cat_")
    table = pq.read_table(path, columns=["consumer_id", *columns])
    profiled = encode_ids(table["consumer_id"].to_numpy())
    rows = [Index(shard.ids).find(profiled) for shard in shards]
    for column in columns:
        values = table[column].combine_chunks().dictionary_encode()
        codes = values.indices.fill_null(-1).to_numpy().astype(np.int64)
        ids = [f"{column.removeprefix('cat_')}={value}" for value in values.dictionary.to_pylist()]
        found = [
            group_sums(shard.vectors, by_row(its, codes, len(shard.ids)), len(ids))
            for its, shard in zip(rows, shards, strict=True)
        ]
        yield (
            ids,
            np.sum([sums for sums, _ in found], axis=0),
            np.sum([sizes for _, sizes in found], axis=0),
        )


def by_row(rows: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """The group of each of a shard's n rows, -1 for none.

    rows: (m,), where in the shard each profile's consumer is, -1 in none. codes: (m,), the group of each profile.
    """
    groups = np.full(n, -1)
    groups[rows[rows >= 0]] = codes[rows >= 0]
    return groups
