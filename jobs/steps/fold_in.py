"""fold_in: a vector for every consumer, in the space's coordinates, as registry shards.

    consumer/shard-00000/{ids,vectors,counts,folded}.npy     one bucket of consumers, sorted by id

The vector of a fitted consumer is rotated into the space. A consumer left out of the fit is folded
in: its vector is computed from its engagements, by the same code that answers a request online.
There is one task per bucket; Spark carries only the names of the buckets and their counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from embeddings.blocks import load_block
from embeddings.facts import Fact
from embeddings.fold_in.base import FoldIn, load_fold_in
from embeddings.registry.client import Vectors
from embeddings.registry.shards import write_shard
from jobs.features.entity_features import profile_rows
from jobs.lake.store import Partition
from jobs.pipeline.plan import inputs, writing
from jobs.settings import Settings
from jobs.steps.embed import needs_of_features

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
FORMAT = 2
SPARK = True
FACTS = (
    Fact(
        "consumers_fitted", "consumers whose vector comes from the fit", "consumers", headline=True
    ),
    Fact("consumers_folded", "consumers that were folded in", "consumers", headline=True),
    Fact(
        "consumers_at_zero",
        "consumers whose vector is zero",
        "consumers",
        better="lower",
        headline=True,
    ),
)
Batches = Iterator[pa.RecordBatch]


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    vectors = [("matrix", day), ("embed", day), ("align", day)]
    return [*vectors, *needs_of_features(settings, day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Write the vectors of the day's consumers, one shard per bucket."""
    read = {partition.step: partition for partition in inputs(settings, "fold_in", day)}
    matrix, embed, align = (read[step].path for step in ("matrix", "embed", "align"))
    names = block_names(matrix)
    with writing(settings, "fold_in", day) as staging:
        rows = [(name,) for name in names]
        # One partition per block, so that every core has work.
        blocks = spark.createDataFrame(rows, "block string").repartition(len(names))
        home = staging.path / "consumer"
        write = shard_writer(matrix, embed, align, home, read.get("validate"))
        counts = blocks.mapInArrow(write, "fitted long, folded long, zero long").toArrow()
        staging.facts |= {
            "consumers_fitted": pc.sum(counts["fitted"]).as_py(),
            "consumers_folded": pc.sum(counts["folded"]).as_py(),
            "consumers_at_zero": pc.sum(counts["zero"]).as_py(),
        }


def block_names(matrix: Path) -> list[str]:
    """The names of all blocks; a bucket may have fitted consumers, left-out ones, or both."""
    names = set()
    for side in ("fitted", "rest"):
        names |= {home.name for home in (matrix / side).glob("block-*")}
    return sorted(names)


def shard_writer(
    matrix: Path, embed: Path, align: Path, home: Path, profiles: Partition | None = None
) -> Callable[[Batches], Batches]:
    """The task: takes names of blocks, writes their shards below `home`, returns their counts.

    profiles: the clean tables, for a fold-in that reads features.
    """

    def write(batches: Batches) -> Batches:
        # As float32, or the product with the vectors would be float64.
        rotation = np.load(align / "rotation.npy").astype(np.float32)
        # In the order of the registry: a request adds the same numbers in the same order.
        order = np.argsort(np.load(matrix / "producers.npy"))
        model = load_fold_in(align / "fold_in").in_order(order)
        for batch in batches:
            for name in batch["block"].to_pylist():
                vectors = embed / "consumers" / f"{name}.npy"
                # Spark runs one task per core; threads of BLAS would compete with other tasks.
                with threadpool_limits(1):
                    fitted = fitted_consumers(matrix / "fitted" / name, vectors, rotation)
                    folded = folded_consumers(matrix / "rest" / name, model, order, profiles)
                shard = merged([part for part in (fitted, folded) if part is not None])
                write_shard(home, int(name.removeprefix("block-")), shard)
                n_folded = int(np.count_nonzero(shard.folded))
                n_zero = int(np.count_nonzero(~shard.vectors.any(axis=1)))
                yield pa.record_batch(
                    {
                        "fitted": [len(shard.ids) - n_folded],
                        "folded": [n_folded],
                        "zero": [n_zero],
                    }
                )

    return write


def fitted_consumers(block: Path, vectors: Path, rotation: np.ndarray) -> Vectors | None:
    """The fitted consumers of a block, rotated into the space; None where it has none."""
    if not block.exists():
        return None
    rows = load_block(block)
    folded = np.zeros(len(rows.ids), dtype=bool)
    return Vectors(rows.ids, np.load(vectors) @ rotation, rows.engagements, folded)


def folded_consumers(
    block: Path, model: FoldIn, order: np.ndarray, profiles: Partition | None
) -> Vectors | None:
    """The consumers of a block that were left out of the fit, folded in; None where it has none.

    order: (m,), the producer of the block that is in each column of the model. profiles: as in
    `shard_writer`.
    """
    if not block.exists():
        return None
    rows = load_block(block)
    histories = rows.matrix(model.n_producers)[:, order]
    histories.sort_indices()
    vocabulary = getattr(model, "vocabulary", None)
    features = []
    if profiles is not None and vocabulary is not None:
        features = [profile_rows(profiles, vocabulary, rows.ids)]
    vectors = model.fold(histories, *features)
    return Vectors(rows.ids, vectors, rows.engagements, np.ones(len(rows.ids), dtype=bool))


def merged(parts: list[Vectors]) -> Vectors:
    """The parts as one table sorted by id; the ids of each part are sorted already."""
    if len(parts) == 1:
        return parts[0]
    # Fitted and left-out consumers are disjoint, so no id occurs twice.
    order = np.argsort(np.concatenate([part.ids for part in parts]))
    columns = []
    for name in ("ids", "vectors", "counts", "folded"):
        columns.append(np.concatenate([getattr(part, name) for part in parts])[order])
    return Vectors(*columns)
