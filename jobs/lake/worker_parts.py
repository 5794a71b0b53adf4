"""Files that Spark's workers write themselves: one for each partition of a DataFrame.

A wide table that a Python task returned to Spark would be converted, sorted and written by the JVM,
which takes longer than the task. Here the task's rows stay in Arrow, and Spark gets a receipt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from jobs.lake.buckets import part_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BatchTask = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def write_by_workers(
    rows: DataFrame, task: BatchTask, folder: Path, keys: list[str], partitions: int
) -> None:
    """What the task makes of each of the partitions, sorted by the keys, as files in a folder.

    partitions: how many the rows have; each becomes a file with its number in the name. keys must
    order the task's rows totally. Raises RuntimeError where the rows are spread over another number
    of partitions.
    """
    from pyspark.sql.pandas.types import to_arrow_schema

    folder.mkdir(parents=True)
    writer = PartWriter(task, to_arrow_schema(rows.schema), folder, tuple(keys), partitions)
    # By number, because PySpark takes the dot in a column's name for a field of the column.
    numbered = rows.toDF(*(f"_{number}" for number in range(len(rows.columns))))
    written = numbered.mapInArrow(writer, "number int").toArrow()["number"].to_pylist()
    if not written:  # without a row, Spark runs no task
        writer.write(0, iter(()))
    elif sorted(written) != list(range(partitions)):
        raise RuntimeError(
            f"{partitions} partitions were to be written to {folder}, and Spark had those with the "
            f"numbers {sorted(written)}. Report this as a fault of Evergreen."
        )
    for draft in folder.glob("*.draft"):  # of tasks that died
        draft.unlink()


@dataclass(frozen=True)
class PartWriter:
    """What a worker does with its partition. schema: of the rows before the task."""

    task: BatchTask
    schema: pa.Schema
    folder: Path
    keys: tuple[str, ...]
    partitions: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the partition of this Spark task; returns its number."""
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None, "a Spark task has a context"
        number = context.partitionId()
        self.write(number, batches)
        yield pa.RecordBatch.from_pydict({"number": pa.array([number], pa.int32())})

    def write(self, number: int, batches: Iterator[pa.RecordBatch]) -> None:
        done = list(self.task(batch.rename_columns(self.schema.names) for batch in batches))
        # As Spark does: the first file holds the columns, even where it has no rows.
        if number == 0 and not done:
            done = list(self.task(iter([empty_batch(self.schema)])))
        if not done:
            return
        # Under another name until it is whole: a task may be killed and run again.
        file = self.folder / part_name(number, self.partitions)
        draft = file.with_suffix(f".{os.getpid()}.draft")
        parquet.write_table(self.in_order(done), draft, store_schema=False)
        draft.rename(file)

    def in_order(self, batches: list[pa.RecordBatch]) -> pa.Table:
        table = pa.Table.from_batches(batches).combine_chunks()
        order = [(key, "ascending", "at_start") for key in self.keys]
        return table.take(pc.sort_indices(table, order))


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
