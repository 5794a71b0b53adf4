"""matrix: the trailing window's engagements -> consumer x producer strengths, as CSR blocks by consumer.

    producers.npy, column_sums.npy     who spans the columns, most popular first, and their sums
    fitted/block-00000/...             the consumers that the factorisation is fitted on
    rest/block-00000/...               those with too few engagements: they are folded in later

The days lie spread by consumer (`jobs.lake.buckets`): one task a bucket counts its own consumers from its own files,
and nothing is shuffled. Then the driver chooses the columns, and as many tasks lay out the blocks under them.
Blocks keep raw strengths; `embeddings.kernels.normalize` makes x̂ of them where they are read: one formula for
fit and fold-in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import ParquetFile

from embeddings.blocks import Block, load_arrays, save_arrays, save_block
from embeddings.kernels.counting import Pairs, count_pairs, relabel
from jobs.errors import BadInput, EvergreenError, UntrustedDay
from jobs.lake.buckets import Part, bucket_of
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.pipeline.plan import trusted, window
from jobs.settings import MatrixSettings, Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "validation", "matrix")
COUNTED = "counted"  # what the first job leaves to the second; never committed
ID = pa.dictionary(pa.int32(), pa.string())
EVENTS = pa.schema(
    [("consumer_id", ID), ("producer_id", ID), ("millionths", pa.float64()), ("ranks", pa.bool_())]
)
POPULARITY = "producer_id binary, ranks long, consumers long"
FACTS = ("consumers_fitted", "consumers_left_out", "pairs", "engagements")
LAID_OUT = ", ".join([*(f"{fact} long" for fact in FACTS), "column_sums binary"])


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("validate", d) for d in window(settings, day, settings.matrix.window_days)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Count, weigh and lay out the window that ends on `day`. Raises UntrustedDay when that day was refused."""
    verdict = settings.lake.get("validate", day)
    if not verdict.facts["trusted"]:
        raise UntrustedDay(f"No matrix for {day}: {verdict.facts['reason']}")
    days = trusted(settings, window(settings, day, settings.matrix.window_days))
    parts = [part for partition in days for part in partition.parts(ENGAGEMENT_TABLE)]
    cfg, n_buckets, where = (
        settings.matrix,
        settings.spark.partitions,
        f"in the {len(days)} trusted days up to {day}",
    )
    with settings.lake.writing(
        "matrix", day, settings=settings.digest(*SETTINGS), inputs=days
    ) as staging:
        producers = count(spark, parts, cfg, n_buckets, staging.path)
        if not len(producers):
            beyond = (
                f" beyond the {cfg.drop_top} most popular producers (matrix.drop_top)"
                if cfg.drop_top
                else ""
            )
            raise EvergreenError(f"No engagement {where}{beyond}: nothing to embed.")
        facts = lay_out(spark, cfg.min_engagements, n_buckets, staging.path)
        if not facts["consumers_fitted"]:
            raise EvergreenError(
                f"No consumer has {cfg.min_engagements} engagements {where}: nothing to fit. "
                "Lower matrix.min_engagements or lengthen matrix.window_days."
            )
        staging.facts |= {"days": len(days), "producers": len(producers), **facts}


def count(
    spark: SparkSession, parts: list[Part], cfg: MatrixSettings, n_buckets: int, home: Path
) -> np.ndarray:
    """The first job: every bucket's pairs below home/counted, and home/producers.npy, which is also returned."""
    task = counter(parts, n_buckets, cfg, home / COUNTED)
    producers = top_producers(each_bucket(spark, n_buckets, task, POPULARITY), cfg)
    np.save(home / "producers.npy", producers, allow_pickle=False)
    return producers


def lay_out(
    spark: SparkSession, min_engagements: int, n_buckets: int, home: Path
) -> dict[str, int]:
    """The second job: what the first has left -> blocks and column sums. Returns the facts."""
    done = each_bucket(spark, n_buckets, block_writer(min_engagements, home), LAID_OUT).toArrow()
    shutil.rmtree(home / COUNTED)
    millionths = sum(np.frombuffer(sums.as_py(), np.int64) for sums in done["column_sums"])
    np.save(home / "column_sums.npy", millionths / 1e6, allow_pickle=False)
    return {fact: pc.sum(done[fact]).as_py() for fact in FACTS}


def each_bucket(
    spark: SparkSession, n: int, task: Callable[[int], pa.RecordBatch], schema: str
) -> DataFrame:
    """One Spark task a bucket, which is given the bucket's number; the rows that they return, together."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from (task(number) for number in batch["id"].to_pylist())

    return spark.range(0, n, 1, n).mapInArrow(work, schema)


# The first job


@dataclass(frozen=True)
class Bucket(Pairs):
    """All pairs of a bucket's consumers, and whose rows and columns they are."""

    consumers: np.ndarray  # (n,) bytes, sorted
    producers: np.ndarray  # bytes, sorted: those that the bucket knows


def counter(
    parts: list[Part], n_buckets: int, cfg: MatrixSettings, home: Path
) -> Callable[[int], pa.RecordBatch]:
    """The task: a bucket's events -> its pairs below home; returns how popular each producer is among them."""

    def task(number: int) -> pa.RecordBatch:
        own = [part for part in parts if part.meets(number, n_buckets)]
        events = [read_events(part, number, n_buckets, cfg) for part in own]
        bucket = count_events(pa.concat_tables([EVENTS.empty_table(), *events]))
        save_arrays(home / f"bucket-{number:05d}", bucket)
        return popularity_in(bucket)

    return task


def read_events(part: Part, bucket: int, n_buckets: int, cfg: MatrixSettings) -> pa.Table:
    """The file's engagements that lie in the bucket and have a strength above 0."""
    ids = ["consumer_id", "producer_id", "kind"]
    rows = ParquetFile(part.path, read_dictionary=ids).read([*ids, "value"], use_threads=False)
    events = weigh(rows, cfg)
    counts = events["millionths"].to_numpy() > 0
    if not part.within(n_buckets):
        counts &= lies_in(rows["consumer_id"], bucket, n_buckets)
    return events if counts.all() else events.filter(counts)


def weigh(rows: pa.Table, cfg: MatrixSettings) -> pa.Table:
    """Add millionths: weight(kind) · value · 10⁶, half rounded up; and ranks: is it of the kind that ranks?"""
    kinds = rows["kind"].combine_chunks()
    names, codes = kinds.dictionary.to_pylist(), kinds.indices.to_numpy()
    weights = np.array([cfg.weights.get(name, 1.0) for name in names])
    ranks = np.array([cfg.rank_by in ("", name) for name in names], dtype=bool)
    fraction, whole = np.modf(rows["value"].to_numpy() * weights[codes] * 1e6)
    whole += fraction >= 0.5
    return pa.table([rows["consumer_id"], rows["producer_id"], whole, ranks[codes]], EVENTS)


def lies_in(ids: pa.ChunkedArray, bucket: int, n_buckets: int) -> np.ndarray:
    """Which of the ids are in the bucket, (n,) bool."""
    encoded = ids.combine_chunks()
    inside = [
        bucket_of(key, n_buckets) == bucket
        for key in encoded.dictionary.cast(pa.binary()).to_pylist()
    ]
    return np.array(inside, dtype=bool)[encoded.indices.to_numpy()]


def count_events(events: pa.Table) -> Bucket:
    """Sum the events of every pair. Raises BadInput where the sums could leave 64 bits."""
    consumers, rows = in_order(events["consumer_id"])
    producers, columns = in_order(events["producer_id"])
    millionths = events["millionths"].to_numpy()
    if not millionths.sum() < 2**63:
        raise BadInput(
            "Engagements are too strong to be added exactly: mend their values, or lower matrix.weights."
        )
    ranks = events["ranks"].to_numpy()
    pairs = count_pairs(
        rows, columns, millionths.astype(np.int64), ranks, (len(consumers), len(producers))
    )
    return Bucket(**vars(pairs), consumers=consumers, producers=producers)


def in_order(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a dictionary column, (n,) bytes, sorted, and which of them every row has, (m,) int32."""
    encoded = column.combine_chunks()
    order = pc.array_sort_indices(encoded.dictionary)
    place = np.empty(len(order), np.int32)
    place[order.to_numpy()] = np.arange(len(order))
    ids = encoded.dictionary.take(order).cast(pa.binary()).to_pylist()
    return np.array(ids, dtype=np.bytes_), place[encoded.indices.to_numpy()]


def popularity_in(bucket: Bucket) -> pa.RecordBatch:
    """Every producer's consumers with an engagement of the kind that ranks, and those with any."""
    n = len(bucket.producers)
    ranks = np.bincount(bucket.indices[bucket.ranks], minlength=n)
    ids = pa.array(bucket.producers.tolist(), pa.binary())
    consumers = np.bincount(bucket.indices, minlength=n)
    return pa.RecordBatch.from_pydict({"producer_id": ids, "ranks": ranks, "consumers": consumers})


def top_producers(popularity: DataFrame, cfg: MatrixSettings) -> np.ndarray:
    """The `cfg.producers` with most consumers of the kind that ranks; then by consumers of any kind, then by id.

    The first `cfg.drop_top` of all are passed over: the rule of Shiebler et al. 2018 for a side that is far more skewed
    than the other. popularity: the rows of every bucket. Returns (n,) bytes, the most popular first.
    """
    from pyspark.sql import functions as F

    totals = popularity.groupBy("producer_id").agg(
        F.sum("ranks").alias("ranks"), F.sum("consumers").alias("consumers")
    )
    ranked = totals.where("consumers > 0").orderBy(
        F.desc("ranks"), F.desc("consumers"), "producer_id"
    )
    top = ranked.limit(cfg.drop_top + cfg.producers).toArrow()["producer_id"].slice(cfg.drop_top)
    return np.array(top.to_pylist(), dtype=np.bytes_)


# The second job


def block_writer(min_engagements: int, home: Path) -> Callable[[int], pa.RecordBatch]:
    """The task: a bucket's pairs -> fitted/block-N and rest/block-N below home; returns the facts and column sums."""

    def task(number: int) -> pa.RecordBatch:
        bucket = load_arrays(home / COUNTED / f"bucket-{number:05d}", Bucket)
        producers = np.load(home / "producers.npy")
        columns = columns_of(bucket.producers, producers)
        indptr, indices, millionths, engagements = relabel(bucket, columns, len(producers))
        block = Block(bucket.consumers, engagements, indptr, indices, millionths)
        enough = engagements >= min_engagements
        fitted, rest = (block.rows(group & (engagements > 0)) for group in (enough, ~enough))
        for name, group in (("fitted", fitted), ("rest", rest)):
            if len(group.ids):
                save_block(
                    home / name / f"block-{number:05d}",
                    replace(group, strengths=group.strengths / 1e6),
                )
        facts = (len(fitted.ids), len(rest.ids), len(fitted.indices), int(engagements.sum()))
        column_sums = fitted.matrix(len(producers)).sum(axis=0).tobytes()
        row = dict(zip(FACTS, facts, strict=True)) | {"column_sums": column_sums}
        return pa.RecordBatch.from_pylist([row])

    return task


def columns_of(ids: np.ndarray, producers: np.ndarray) -> np.ndarray:
    """Each id's place among the producers, (n,) int32; −1: it has none."""
    columns = np.full(len(ids), -1, np.int32)
    _, here, there = np.intersect1d(ids, producers, assume_unique=True, return_indices=True)
    columns[here] = there
    return columns
