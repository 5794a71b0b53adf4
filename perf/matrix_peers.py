"""The peers of bench-matrix, Spark's groupBy and DuckDB: both end with the blocks of the step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from embeddings.blocks import Block, save_block
from jobs.settings import MatrixSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def save_blocks(home: Path, number: int, block: Block, min_engagements: int) -> None:
    """Save the fitted consumers of a block and the rest, in the layout of the step."""
    enough = block.engagements >= min_engagements
    for name, keep in (("fitted", enough), ("rest", ~enough)):
        if keep.any():
            save_block(home / name / f"block-{number:05d}", block.rows(keep))


# Spark: two shuffles, one of the engagements and one of their pairs


def group_by(
    spark: SparkSession, files: list[str], cfg: MatrixSettings, n_blocks: int, home: Path
) -> None:
    """The step as it was before the files of a day were bucketed by consumer."""
    pairs = strengths(spark.read.parquet(*files), cfg).cache()
    producers = top_producers(pairs, cfg)
    np.save(home / "producers.npy", np.array(producers, dtype=np.bytes_))
    write_blocks(spark, pairs, producers, cfg.min_engagements, home, n_blocks)
    pairs.unpersist(blocking=True)


def strengths(engagements: DataFrame, cfg: MatrixSettings) -> DataFrame:
    """One row per pair: Σ weight(kind) · value to six decimals, and the number of engagements."""
    from pyspark.sql import functions as F

    weight = F.lit(1.0)
    for kind, w in sorted(cfg.weights.items()):
        weight = F.when(F.col("kind") == kind, F.lit(w)).otherwise(weight)
    weighed = engagements.withColumn(
        "millionths", F.round(F.col("value") * weight * 1e6).cast("long")
    )
    sums = weighed.where(F.col("millionths") > 0).groupBy("consumer_id", "producer_id")
    return sums.agg(
        (F.sum("millionths") / 1e6).alias("strength"), F.count("*").alias("engagements")
    )


def top_producers(pairs: DataFrame, cfg: MatrixSettings) -> list[str]:
    """The producers with the most consumers; of equals, the smaller id first."""
    from pyspark.sql import functions as F

    popularity = pairs.groupBy("producer_id").agg(F.count("*").alias("consumers"))
    top = popularity.orderBy(F.desc("consumers"), "producer_id").limit(cfg.producers)
    return [row.producer_id for row in top.collect()]


def write_blocks(
    spark: SparkSession,
    pairs: DataFrame,
    producers: list[str],
    min_engagements: int,
    home: Path,
    n_blocks: int,
) -> None:
    """Every task lays out the consumers of one bucket and writes their blocks below `home`."""
    from pyspark.sql import functions as F

    columns = pd.DataFrame(
        {"producer_id": producers, "producer_row": np.arange(len(producers), dtype=np.int32)}
    )
    placed = pairs.join(F.broadcast(spark.createDataFrame(columns)), "producer_id").select(
        F.pmod(F.xxhash64("consumer_id"), F.lit(n_blocks)).cast("int").alias("block"),
        "consumer_id",
        "producer_row",
        "strength",
        "engagements",
    )
    placed.groupBy("block").applyInArrow(
        block_writer(home, min_engagements), "consumers long"
    ).collect()


def block_writer(home: Path, min_engagements: int) -> Callable[[pa.Table], pa.Table]:
    def write(pairs: pa.Table) -> pa.Table:
        block = to_block(pairs)
        save_blocks(home, pairs["block"][0].as_py(), block, min_engagements)
        return pa.table({"consumers": [len(block.ids)]})

    return write


def to_block(pairs: pa.Table) -> Block:
    """CSR rows by consumer id, columns ascending.

    pairs: (consumer_id, producer_row, strength, engagements) in any order.
    """
    pairs = pairs.sort_by([("consumer_id", "ascending"), ("producer_row", "ascending")])
    # The dictionary is in order of appearance, so it is sorted, too.
    ids = pairs["consumer_id"].combine_chunks().dictionary_encode()
    rows = ids.indices.to_numpy(zero_copy_only=False)
    n = len(ids.dictionary)
    counts = np.bincount(rows, pairs["engagements"].to_numpy(), minlength=n).astype(np.int32)
    return Block(
        ids=np.array([i.encode() for i in ids.dictionary.to_pylist()], dtype=np.bytes_),
        engagements=counts,
        indptr=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64),
        indices=pairs["producer_row"].to_numpy().astype(np.int32),
        strengths=pairs["strength"].to_numpy().astype(np.float64),
    )


# DuckDB: the same sums, then numbered rows and columns; SciPy sorts them faster than DuckDB

PAIRS = """
create table pairs as
select consumer_id, producer_id,
       sum(millionths)::bigint as millionths, count(*)::int as engagements
from (
    select *, round(value * {weight} * 1e6)::bigint as millionths
    from read_parquet(?)
)
where millionths > 0
group by consumer_id, producer_id
"""

COLUMNS = """
create table columns as
select producer_id, (row_number() over (order by count(*) desc, producer_id) - 1)::int as number
from pairs
group by producer_id
order by number
limit ?
"""

ROWS = """
create table rows as
select consumer_id, (row_number() over (order by consumer_id) - 1)::int as number
from (select distinct consumer_id from pairs semi join columns using (producer_id))
"""

ENTRIES = """
select rows.number as row, columns.number as column, millionths, engagements
from pairs
join columns using (producer_id)
join rows using (consumer_id)
"""


def duckdb_pairs(files: list[str], cfg: MatrixSettings, threads: int) -> duckdb.DuckDBPyConnection:
    """A connection with the table `pairs`: the group-by alone."""
    connection = duckdb.connect(config={"threads": threads})
    cases = " ".join(f"when '{kind}' then {weight}" for kind, weight in cfg.weights.items())
    connection.execute(PAIRS.format(weight=f"case kind {cases} else 1 end"), [files])
    return connection


def duckdb_blocks(files: list[str], cfg: MatrixSettings, threads: int, home: Path) -> None:
    """The whole step: the pairs, and one block with all rows."""
    with duckdb_pairs(files, cfg, threads) as connection:
        connection.execute(COLUMNS, [cfg.producers])
        connection.execute(ROWS)
        entries = connection.execute(ENTRIES).fetchnumpy()
        consumers = ids_of(connection, "consumer_id", "rows")
        producers = ids_of(connection, "producer_id", "columns")
    pairs = (entries["millionths"], (entries["row"], entries["column"]))
    x = sp.coo_matrix(pairs, (len(consumers), len(producers))).tocsr()
    x.sort_indices()
    block = Block(
        ids=consumers,
        engagements=np.bincount(entries["row"], entries["engagements"]).astype(np.int32),
        indptr=x.indptr.astype(np.int64),
        indices=x.indices,
        strengths=x.data / 1e6,
    )
    save_blocks(home, 0, block, cfg.min_engagements)
    np.save(home / "producers.npy", producers)


def ids_of(connection: duckdb.DuckDBPyConnection, column: str, table: str) -> np.ndarray:
    """The ids of a table by number, as bytes."""
    result = connection.execute(f"select {column} from {table} order by number").fetchnumpy()
    return np.array([name.encode() for name in result[column]], dtype=np.bytes_)
