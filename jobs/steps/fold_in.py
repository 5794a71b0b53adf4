"""fold in: a vector for everybody, in the space's coordinates, as the shards that the registry publishes.

    consumer/shard-00000/{ids,vectors,counts,folded}.npy     a bucket's consumers, ids sorted

A fitted consumer's vector is turned into the space; one left out of the fit gets its vector from its engagements by
the formula that answers a single request online. One task a bucket; Spark carries the buckets' names and their counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from embeddings.embedders.blocks import load_block
from embeddings.fold_in.base import FoldIn
from embeddings.registry.client import Vectors
from embeddings.registry.shards import write_shard
from jobs.settings import Settings
from jobs.steps.embed import load_fold_in

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("matrix", day), ("embed", day), ("align", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Write the day's consumers, shard by shard."""
    inputs = [settings.lake.get(step, day) for step in ("matrix", "embed", "align")]
    matrix, embed, align = (partition.path for partition in inputs)
    names = sorted(
        {home.name for side in ("fitted", "rest") for home in (matrix / side).glob("block-*")}
    )
    with settings.lake.writing(
        "fold_in", day, settings=settings.digest(*SETTINGS), inputs=inputs
    ) as staging:
        blocks = spark.createDataFrame([(name,) for name in names], "block string").repartition(
            len(names)
        )
        write = shard_writer(matrix, embed, align, staging.path / "consumer")
        counts = blocks.mapInArrow(write, "fitted long, folded long, zero long").toArrow()
        staging.facts |= {
            "consumers_fitted": sum(counts["fitted"].to_pylist()),
            "consumers_folded": sum(counts["folded"].to_pylist()),
            "consumers_at_zero": sum(counts["zero"].to_pylist()),
        }


def shard_writer(
    matrix: Path, embed: Path, align: Path, home: Path
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The task: names of blocks in, their shards written below home, counts out."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rotation, model = (
            np.load(align / "rotation.npy").astype(np.float32),
            load_fold_in(align / "fold_in"),
        )
        for batch in batches:
            for name in batch["block"].to_pylist():
                with threadpool_limits(1):
                    fitted = fitted_consumers(
                        matrix / "fitted" / name, embed / "consumers" / f"{name}.npy", rotation
                    )
                    folded = folded_consumers(matrix / "rest" / name, model)
                write_shard(
                    home,
                    int(name.removeprefix("block-")),
                    merged([p for p in (fitted, folded) if p]),
                )
                zero = sum(int((~p.vectors.any(axis=1)).sum()) for p in (fitted, folded) if p)
                sizes = [len(p.ids) if p else 0 for p in (fitted, folded)]
                yield pa.record_batch({"fitted": sizes[:1], "folded": sizes[1:], "zero": [zero]})

    return write


def fitted_consumers(block: Path, vectors: Path, rotation: np.ndarray) -> Vectors | None:
    """The fitted consumers of a block, turned into the space; None where it has none."""
    if not block.exists():
        return None
    rows = load_block(block)
    return Vectors(
        rows.ids, np.load(vectors) @ rotation, rows.engagements, np.zeros(len(rows.ids), dtype=bool)
    )


def folded_consumers(block: Path, model: FoldIn) -> Vectors | None:
    """The left-out consumers of a block, folded in; None where it has none."""
    if not block.exists():
        return None
    rows = load_block(block)
    vectors = model.fold(rows.matrix(model.n_producers))
    return Vectors(rows.ids, vectors, rows.engagements, np.ones(len(rows.ids), dtype=bool))


def merged(parts: list[Vectors]) -> Vectors:
    """One table of these, ids sorted, as those of each part are."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.ids for part in parts]))
    fields = ("ids", "vectors", "counts", "folded")
    return Vectors(
        *(np.concatenate([getattr(part, field) for part in parts])[order] for field in fields)
    )
