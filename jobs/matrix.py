"""matrix: the trailing window's engagements -> consumer x producer strengths, as CSR blocks by consumer.

    producers.npy, column_sums.npy     who spans the columns, most popular first, and the sums that normalise them
    fitted/block-00000/...             the consumers that the factorisation is fitted on
    rest/block-00000/...               those with too few engagements: they are folded in later

Blocks keep raw strengths; `embeddings.normalize` makes x̂ of them where they are read: one formula for fit and fold-in.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embeddings.csr import Block, load_blocks, save_block
from jobs.errors import EvergreenError, UntrustedDay
from jobs.lake import Partition
from jobs.schema import ENGAGEMENT_TABLE
from jobs.settings import MatrixSettings, Settings
from jobs.steps import trusted, window

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "validation", "matrix")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("validate", d) for d in window(settings, day, settings.matrix.window_days)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Count, weigh and lay out the window that ends on `day`. Raises UntrustedDay when that day was refused."""
    verdict = settings.lake.get("validate", day)
    if not verdict.facts["trusted"]:
        raise UntrustedDay(f"No matrix for {day}: {verdict.facts['reason']}")
    days = trusted(settings, window(settings, day, settings.matrix.window_days))
    pairs = strengths(engagements(spark, days), settings.matrix).cache()
    producers = top_producers(pairs, settings.matrix)
    if not producers:
        raise EvergreenError(f"No engagement in the {len(days)} trusted days up to {day}: nothing to embed.")
    with settings.lake.writing("matrix", day, settings=settings.digest(*SETTINGS), inputs=days) as staging:
        write_blocks(spark, pairs, producers, settings.matrix.min_engagements, staging.path, settings.spark.partitions)
        fitted, rest = load_blocks(staging.path / "fitted"), load_blocks(staging.path / "rest")
        if not fitted:
            raise EvergreenError(
                f"No consumer has {settings.matrix.min_engagements} engagements in the {len(days)} trusted days "
                f"up to {day}: nothing to fit. Lower matrix.min_engagements or lengthen matrix.window_days."
            )
        np.save(staging.path / "producers.npy", np.array(producers, dtype=np.bytes_), allow_pickle=False)
        sums = sum(np.bincount(b.indices, b.strengths, minlength=len(producers)) for b in fitted)
        np.save(staging.path / "column_sums.npy", sums, allow_pickle=False)
        staging.facts |= {
            "days": len(days),
            "producers": len(producers),
            "consumers_fitted": sum(len(b.ids) for b in fitted),
            "consumers_left_out": sum(len(b.ids) for b in rest),
            "pairs": sum(len(b.indices) for b in fitted),
            "engagements": int(sum(int(b.engagements.sum()) for b in [*fitted, *rest])),
        }
    pairs.unpersist()


def engagements(spark: SparkSession, days: list[Partition]) -> DataFrame:
    """The engagements of these days, one row each."""
    paths = [str(p.path / ENGAGEMENT_TABLE) for p in days if p.has(ENGAGEMENT_TABLE)]
    if not paths:
        raise EvergreenError(f"None of the days {[str(p.day) for p in days]} has engagements: nothing to embed.")
    return spark.read.parquet(*paths)


def strengths(engagements: DataFrame, cfg: MatrixSettings) -> DataFrame:
    """One row a (consumer, producer): Σ weight(kind) · value to six decimals, the number of engagements,
    and whether one of them is of the kind that ranks producers.

    Summed as whole millionths: exact, so the order in which Spark adds cannot show.
    """
    from pyspark.sql import functions as F

    weight = F.lit(1.0)
    for kind, w in sorted(cfg.weights.items()):
        weight = F.when(F.col("kind") == kind, F.lit(w)).otherwise(weight)
    weighed = engagements.withColumn("millionths", F.round(F.col("value") * weight * 1e6).cast("long"))
    sums = weighed.where(F.col("millionths") > 0).groupBy("consumer_id", "producer_id")
    ranks = F.max((F.col("kind") == cfg.rank_by).cast("int")) if cfg.rank_by else F.lit(1)
    strength = (F.sum("millionths") / 1e6).alias("strength")
    return sums.agg(strength, F.count("*").alias("engagements"), ranks.alias("ranks"))


def top_producers(pairs: DataFrame, cfg: MatrixSettings) -> list[str]:
    """The `cfg.producers` with most consumers of the kind that ranks; then by consumers of any kind, then by id."""
    from pyspark.sql import functions as F

    popularity = pairs.groupBy("producer_id").agg(F.sum("ranks").alias("ranks"), F.count("*").alias("consumers"))
    top = popularity.orderBy(F.desc("ranks"), F.desc("consumers"), "producer_id").limit(cfg.producers)
    return [row.producer_id for row in top.collect()]


def write_blocks(
    spark: SparkSession, pairs: DataFrame, producers: list[str], min_engagements: int, home: Path, n_blocks: int
) -> None:
    """Each task lays out the consumers of one bucket and writes its blocks below `home` itself."""
    from pyspark.sql import functions as F

    columns = pa.table({"producer_id": producers, "producer_row": np.arange(len(producers), dtype=np.int32)})
    placed = pairs.join(F.broadcast(spark.createDataFrame(columns.to_pandas())), "producer_id").select(
        F.pmod(F.xxhash64("consumer_id"), F.lit(n_blocks)).cast("int").alias("block"),
        "consumer_id",
        "producer_row",
        "strength",
        "engagements",
    )
    write = block_writer(str(home), min_engagements)
    placed.groupBy("block").applyInArrow(write, "block int, fitted long, rest long").collect()


def block_writer(home: str, min_engagements: int) -> Callable[[pa.Table], pa.Table]:
    """The task: one bucket's pairs -> fitted/block-N and rest/block-N below home, and how many consumers went where."""

    def write(pairs: pa.Table) -> pa.Table:
        number = pairs["block"][0].as_py()
        block = to_block(pairs)
        enough = block.engagements >= min_engagements
        for name, keep in (("fitted", enough), ("rest", ~enough)):
            if keep.any():
                save_block(Path(home) / name / f"block-{number:05d}", block.rows(keep))
        counts = {"block": [number], "fitted": [int(enough.sum())], "rest": [int((~enough).sum())]}
        return pa.table(counts, schema=pa.schema([("block", pa.int32()), ("fitted", pa.int64()), ("rest", pa.int64())]))

    return write


def to_block(pairs: pa.Table) -> Block:
    """(consumer_id, producer_row, strength, engagements) in any order -> CSR rows by consumer id, columns ascending."""
    pairs = pairs.sort_by([("consumer_id", "ascending"), ("producer_row", "ascending")])
    ids = pairs["consumer_id"].combine_chunks().dictionary_encode()  # in order of appearance, which is sorted
    rows = ids.indices.to_numpy(zero_copy_only=False)
    n = len(ids.dictionary)
    counts = np.bincount(rows, pairs["engagements"].to_numpy(), minlength=n).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    return Block(
        ids=np.array([i.encode() for i in ids.dictionary.to_pylist()], dtype=np.bytes_),
        engagements=counts,
        indptr=indptr,
        indices=pairs["producer_row"].to_numpy().astype(np.int32),
        strengths=pairs["strength"].to_numpy().astype(np.float64),
    )
