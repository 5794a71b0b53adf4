"""matrix: the trailing window's engagements -> consumer x producer strengths, as CSR blocks.

    producers.npy, column_sums.npy     the producers of the columns, most popular first; their sums
    fitted/block-00000/...             the consumers that the factorisation is fitted on
    rest/block-00000/...               those with too few engagements: they are folded in later
    sessions/block-00000/...           with `session_minutes`: sessions of all consumers

The days are stored spread by consumer (`jobs.lake.buckets`), so nothing has to be shuffled. In a
first job, one task per bucket counts the pairs of its consumers. Then the driver chooses the
columns, and in a second job as many tasks lay out the blocks under these columns.

Blocks keep raw strengths, but none that is out of all proportion to the others: see
`embeddings.kernels.strength_bound`. `embeddings.kernels.normalize` turns them into x̂ where they are
read: one formula for fit and fold-in.
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

from embeddings.blocks import Block, SessionBlock, load_arrays, save_arrays, save_block
from embeddings.facts import Fact
from embeddings.kernels.counting import Pairs, count_pairs, relabel
from embeddings.kernels.sessions import session_of_each
from embeddings.kernels.strength_bound import largest_strength, strength_counts
from jobs.errors import BadInput, EvergreenError, UntrustedDay
from jobs.lake.buckets import Part, in_bucket
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.pipeline.needs import Need, optional
from jobs.pipeline.plan import Reads, reads, recording, trusted, window
from jobs.settings import MatrixSettings, Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "validation", "matrix")
FORMAT = 2
SPARK = True

FACTS = (
    Fact("days", "trusted days of the window", unit="days"),
    # Without the reasons: another reason for the same days must not make another matrix.
    Fact("days_missing", "days of the window that could not be validated"),
    Fact("producers", "producers that are columns of the matrix", unit="producers", headline=True),
    Fact(
        "consumers_fitted",
        "consumers with enough engagements to be fitted",
        unit="consumers",
        headline=True,
    ),
    Fact(
        "consumers_left_out",
        "consumers with too few engagements, who are folded in",
        unit="consumers",
        headline=True,
    ),
    Fact("pairs", "distinct pairs of a fitted consumer and a producer", "pairs", headline=True),
    Fact("pairs_bounded", "pairs whose strength was beyond `max_strength_ratio`", "pairs", "lower"),
    Fact(
        "engagements",
        "engagements with these producers, by fitted and left-out consumers",
        unit="engagements",
    ),
)

PRODUCERS = "producers.npy"
COLUMN_SUMS = "column_sums.npy"
COUNTED = "counted"  # the pairs that the first job counts for the second; never committed
STRENGTHS = "strengths.npy"  # in it, of each bucket: how many pairs have which strength
SESSIONS = "sessions"  # in it, of each bucket; and the folder of their blocks

ID = pa.dictionary(pa.int32(), pa.string())
EVENTS = pa.schema(
    [("consumer_id", ID), ("producer_id", ID), ("millionths", pa.float64()), ("ranks", pa.bool_())]
)
TIME = pa.field("time_ms", pa.int64())  # of EVENTS, only with session_minutes
SESSION_FACT = Fact("sessions", "sessions of two producers or more", "sessions", headline=True)

# The Spark schemas of what a task returns, in the first job and in the second.
POPULARITY = "producer_id binary, ranks long, consumers long"
BLOCK_FACTS = (
    "consumers_fitted",
    "consumers_left_out",
    "pairs",
    "pairs_bounded",
    "engagements",
    "sessions",
)
LAID_OUT = ", ".join([*(f"{fact} long" for fact in BLOCK_FACTS), "column_sums binary"])


def chosen_facts(settings: Settings) -> tuple[Fact, ...]:
    """The number of sessions, with session_minutes."""
    return (SESSION_FACT,) if settings.matrix.session_minutes else ()


def needs(settings: Settings, day: date) -> list[Need]:
    """The verdicts on the window's days; the day's own is indispensable."""
    days = window(settings, day, settings.matrix.window_days)
    return [*(optional("validate", earlier) for earlier in days[:-1]), ("validate", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Count, weigh and lay out the window that ends on `day`.

    Raises UntrustedDay when validation refused that day.
    """
    read = reads(settings, "matrix", day)
    verdict = read["validate", day]
    if not trusted(verdict):
        raise UntrustedDay(f"No matrix for {day}: {verdict.facts['reason']}")
    cfg = settings.matrix
    n_buckets = settings.spark.partitions
    days = [partition for partition in read.values() if trusted(partition)]
    parts = []
    for partition in days:
        share = decay((day - partition.day).days, cfg.half_life_days)
        parts += [(part, share) for part in partition.parts(ENGAGEMENT_TABLE)]
    where = f"in the {len(days)} trusted days up to {day}"
    with recording(settings, "matrix", day, read.values()) as staging:
        producers = count(spark, parts, cfg, n_buckets, staging.path)
        if not len(producers):
            dropped = f" beyond the {cfg.drop_top} most popular producers (matrix.drop_top)"
            raise EvergreenError(
                f"No engagement {where}{dropped if cfg.drop_top else ''}: nothing to embed."
            )
        facts = lay_out(spark, cfg, n_buckets, staging.path)
        if not facts["consumers_fitted"]:
            raise EvergreenError(
                f"No consumer has {cfg.min_engagements} engagements {where}: nothing to fit. "
                "Lower matrix.min_engagements or lengthen matrix.window_days."
            )
        staging.facts |= {"days": len(days), "producers": len(producers), **facts}
        if missing := days_missing(settings, day, read):
            staging.facts["days_missing"] = ", ".join(missing)


def days_missing(settings: Settings, day: date, read: Reads) -> list[str]:
    """The days of the window without a verdict."""
    days = window(settings, day, settings.matrix.window_days)
    return [str(earlier) for earlier in days if ("validate", earlier) not in read]


def decay(age: int, half_life: float) -> float:
    """What an engagement counts after `age` days; 1 without a half-life (0)."""
    return 0.5 ** (age / half_life) if half_life else 1.0


def count(
    spark: SparkSession,
    parts: list[tuple[Part, float]],
    cfg: MatrixSettings,
    n_buckets: int,
    home: Path,
) -> np.ndarray:
    """The first job: every bucket's pairs below home/counted, and home/producers.npy.

    parts: with what an engagement of each counts. Returns the producers.
    """
    task = counter(parts, n_buckets, cfg, home / COUNTED)
    producers = top_producers(each_bucket(spark, n_buckets, task, POPULARITY), cfg)
    np.save(home / PRODUCERS, producers, allow_pickle=False)
    return producers


def lay_out(spark: SparkSession, cfg: MatrixSettings, n_buckets: int, home: Path) -> dict[str, int]:
    """The second job: the pairs of the first -> blocks and column sums. Returns the facts."""
    folders = [bucket_folder(home / COUNTED, number) for number in range(n_buckets)]
    counts = sum(np.load(folder / STRENGTHS, allow_pickle=False) for folder in folders)
    largest = largest_strength(counts, cfg.max_strength_ratio)
    task = block_writer(cfg, largest, home)
    laid_out = each_bucket(spark, n_buckets, task, LAID_OUT).toArrow()
    shutil.rmtree(home / COUNTED)
    # Whole millionths add exactly, so the order of the buckets cannot matter.
    millionths = sum(np.frombuffer(sums.as_py(), np.int64) for sums in laid_out["column_sums"])
    np.save(home / COLUMN_SUMS, millionths / 1e6, allow_pickle=False)
    facts = {fact: pc.sum(laid_out[fact]).as_py() for fact in BLOCK_FACTS}
    if not cfg.session_minutes:
        del facts["sessions"]
    return facts


def each_bucket(
    spark: SparkSession, n: int, task: Callable[[int], pa.RecordBatch], schema: str
) -> DataFrame:
    """The rows that `task` returns for the number of each bucket, in one Spark task per bucket."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                yield task(number)

    return spark.range(0, n, 1, n).mapInArrow(work, schema)


def bucket_folder(home: Path, number: int) -> Path:
    return home / f"bucket-{number:05d}"


# --- the first job


@dataclass(frozen=True)
class Bucket(Pairs):
    """All pairs of a bucket's consumers, and the ids of their rows and columns."""

    consumers: np.ndarray  # (n,) bytes, sorted
    producers: np.ndarray  # bytes, sorted: those that occur in the bucket


def counter(
    parts: list[tuple[Part, float]], n_buckets: int, cfg: MatrixSettings, home: Path
) -> Callable[[int], pa.RecordBatch]:
    """The task: a bucket's events -> its pairs below home. Returns `popularity_in` the bucket."""

    def task(number: int) -> pa.RecordBatch:
        tables = [columns_of_events(cfg).empty_table()]  # for a bucket without files
        for part, share in parts:
            if part.meets(number, n_buckets):
                tables.append(read_events(part, share, number, n_buckets, cfg))
        events = pa.concat_tables(tables)
        bucket = count_events(events)
        folder = bucket_folder(home, number)
        if cfg.session_minutes:
            save_arrays(folder / SESSIONS, count_sessions(events, cfg.session_minutes))
        save_arrays(folder, bucket)
        np.save(folder / STRENGTHS, strength_counts(bucket.millionths), allow_pickle=False)
        return popularity_in(bucket)

    return task


def read_events(
    part: Part, share: float, bucket: int, n_buckets: int, cfg: MatrixSettings
) -> pa.Table:
    """The file's engagements that are in the bucket and have a strength above 0.

    share: what one of them counts on the last day of the window.
    """
    ids = ["consumer_id", "producer_id", "kind"]
    # As dictionaries, so that each distinct id is hashed and sorted once. Without threads, because
    # Spark runs one task per core.
    columns = [*ids, "value", *([TIME.name] if cfg.session_minutes else [])]
    rows = ParquetFile(part.path, read_dictionary=ids).read(columns, use_threads=False)
    events = weigh(rows, share, cfg)
    counts = events["millionths"].to_numpy() > 0
    if not part.within(n_buckets):
        # Written with another number of buckets: the file also holds consumers of other tasks.
        counts &= in_bucket(rows["consumer_id"], bucket, n_buckets)
    return events if counts.all() else events.filter(counts)


def weigh(rows: pa.Table, share: float, cfg: MatrixSettings) -> pa.Table:
    """Engagements -> EVENTS.

    millionths: share · weight(kind) · value · 10⁶, half rounded up. ranks: is it of the kind that
    ranks?
    """
    kinds = rows["kind"].combine_chunks()
    names = kinds.dictionary.to_pylist()
    codes = kinds.indices.to_numpy()
    weights = share * np.array([cfg.weights.get(name, 1.0) for name in names])
    ranks = np.array([cfg.rank_by in ("", name) for name in names], dtype=bool)
    # Half up, as Spark rounds; np.rint would round halves to even.
    fraction, whole = np.modf(rows["value"].to_numpy() * weights[codes] * 1e6)
    whole += fraction >= 0.5
    events = [rows["consumer_id"], rows["producer_id"], whole, ranks[codes]]
    if cfg.session_minutes:
        events.append(pc.fill_null(rows[TIME.name], 0))
    return pa.table(events, columns_of_events(cfg))


def columns_of_events(cfg: MatrixSettings) -> pa.Schema:
    """The columns of events; with session_minutes, their times too."""
    return EVENTS.append(TIME) if cfg.session_minutes else EVENTS


def count_events(events: pa.Table) -> Bucket:
    """Sum the events of every pair. Raises BadInput where the sums could exceed 64 bits."""
    consumers, rows = in_order(events["consumer_id"])
    producers, columns = in_order(events["producer_id"])
    millionths = events["millionths"].to_numpy()
    if not millionths.sum() < 2**63:  # also where the sum is not a number
        raise BadInput(
            "The strengths of the engagements are too large to be added exactly. "
            "Fix the log's values, or lower matrix.weights."
        )
    ranks = events["ranks"].to_numpy()
    shape = (len(consumers), len(producers))
    pairs = count_pairs(rows, columns, millionths.astype(np.int64), ranks, shape)
    return Bucket(**vars(pairs), consumers=consumers, producers=producers)


def count_sessions(events: pa.Table, minutes: float) -> Pairs:
    """Sum the events of every session and producer; producers as in `count_events`.

    All engagements without a time that a consumer has are one session.
    """
    _, consumers = in_order(events["consumer_id"])
    producers, columns = in_order(events["producer_id"])
    times = events[TIME.name].to_numpy()
    sessions, n_sessions = session_of_each(consumers, times, round(minutes * 60_000))
    millionths = events["millionths"].to_numpy().astype(np.int64)
    ranks = events["ranks"].to_numpy()
    return count_pairs(sessions, columns, millionths, ranks, (n_sessions, len(producers)))


def in_order(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids of a dictionary column, and which of them each row has.

    Returns the ids, (n,) bytes, sorted, and each row's position among them, (m,) int32.
    """
    encoded = column.combine_chunks()
    order = pc.array_sort_indices(encoded.dictionary)
    # order[i] is the code of the i-th id; its inverse is the place of each code.
    place = np.empty(len(order), np.int32)
    place[order.to_numpy()] = np.arange(len(order))
    ids = encoded.dictionary.take(order).cast(pa.binary()).to_pylist()
    return np.array(ids, dtype=np.bytes_), place[encoded.indices.to_numpy()]


def popularity_in(bucket: Bucket) -> pa.RecordBatch:
    """POPULARITY: how many consumers each producer has, by the kind that ranks and by any kind."""
    n = len(bucket.producers)
    ids = pa.array(bucket.producers.tolist(), pa.binary())
    ranks = np.bincount(bucket.indices[bucket.ranks], minlength=n)
    consumers = np.bincount(bucket.indices, minlength=n)
    return pa.RecordBatch.from_pydict({"producer_id": ids, "ranks": ranks, "consumers": consumers})


def top_producers(popularity: DataFrame, cfg: MatrixSettings) -> np.ndarray:
    """The `cfg.producers` most popular ones after the first `cfg.drop_top`.

    The most popular producer has the most consumers by the kind that ranks; ties are broken by its
    consumers of any kind, then by its id. popularity: the rows of every bucket. Returns (n,) bytes,
    the most popular first.
    Source: Shiebler et al. 2018 drop the top of a side that is far more skewed than the other.
    """
    from pyspark.sql import functions as F

    ranks = F.sum("ranks").alias("ranks")
    consumers = F.sum("consumers").alias("consumers")
    totals = popularity.groupBy("producer_id").agg(ranks, consumers).where("consumers > 0")
    ranked = totals.orderBy(F.desc("ranks"), F.desc("consumers"), "producer_id")
    top = ranked.limit(cfg.drop_top + cfg.producers).toArrow()["producer_id"]
    return np.array(top.slice(cfg.drop_top).to_pylist(), dtype=np.bytes_)


# --- the second job


def block_writer(cfg: MatrixSettings, largest: int, home: Path) -> Callable[[int], pa.RecordBatch]:
    """The task: a bucket's pairs -> fitted/block-N, rest/block-N and sessions/block-N below home.

    largest: of a pair's strengths, in millionths. Returns LAID_OUT: the facts and the column sums
    of the fitted.
    """

    def task(number: int) -> pa.RecordBatch:
        folder = bucket_folder(home / COUNTED, number)
        bucket = load_arrays(folder, Bucket)
        producers = np.load(home / PRODUCERS)
        raw = block_of(bucket, producers)
        block = replace(raw, strengths=np.minimum(raw.strengths, largest))
        # A consumer who engaged only with producers that have no column is in neither block.
        known = block.engagements > 0
        enough = block.engagements >= cfg.min_engagements
        fitted = block.rows(known & enough)
        rest = block.rows(known & ~enough)
        save_millionths(home / "fitted" / f"block-{number:05d}", fitted)
        save_millionths(home / "rest" / f"block-{number:05d}", rest)
        n_sessions = 0
        if cfg.session_minutes:
            columns = columns_of(bucket.producers, producers)
            pairs = load_arrays(folder / SESSIONS, Pairs)
            sessions = session_block(pairs, columns, len(producers), largest)
            save_arrays(home / SESSIONS / f"block-{number:05d}", sessions)
            n_sessions = len(sessions.indptr) - 1
        row = {
            "consumers_fitted": len(fitted.ids),
            "consumers_left_out": len(rest.ids),
            "pairs": len(fitted.indices),
            "pairs_bounded": int(np.count_nonzero(raw.strengths > largest)),
            "engagements": int(block.engagements.sum()),
            "sessions": n_sessions,
            "column_sums": fitted.matrix(len(producers)).sum(axis=0).tobytes(),
        }
        return pa.RecordBatch.from_pylist([row])

    return task


def block_of(bucket: Bucket, producers: np.ndarray) -> Block:
    """The bucket's consumers under the columns of `producers`; strengths remain in millionths."""
    columns = columns_of(bucket.producers, producers)
    indptr, indices, millionths, engagements = relabel(bucket, columns, len(producers))
    return Block(bucket.consumers, engagements, indptr, indices, millionths)


def session_block(pairs: Pairs, columns: np.ndarray, n_columns: int, largest: int) -> SessionBlock:
    """The sessions of two producers or more under these columns; as strong as pairs at most.

    columns: of the pairs' producers, −1 for none. largest: strength, in millionths.
    """
    indptr, indices, millionths, _ = relabel(pairs, columns, n_columns)
    several = np.diff(indptr) > 1
    kept = np.repeat(several, np.diff(indptr))
    starts = np.concatenate([[0], np.cumsum(np.diff(indptr)[several])])
    return SessionBlock(starts, indices[kept], np.minimum(millionths[kept], largest) / 1e6)


def save_millionths(folder: Path, block: Block) -> None:
    """Save a block, its strengths converted from millionths; without consumers, write no folder."""
    if len(block.ids):
        save_block(folder, replace(block, strengths=block.strengths / 1e6))


def columns_of(ids: np.ndarray, producers: np.ndarray) -> np.ndarray:
    """Each id's place among the producers, (n,) int32; −1 where it is not one of them."""
    columns = np.full(len(ids), -1, np.int32)
    _, rows, places = np.intersect1d(ids, producers, assume_unique=True, return_indices=True)
    columns[rows] = places
    return columns
