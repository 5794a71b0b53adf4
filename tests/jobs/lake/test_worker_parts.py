"""Files that workers write: the rows that Spark would have written, in the same order."""

from __future__ import annotations

import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from jobs.lake.worker_parts import write_by_workers

ROWS = [(n % 3, None if n % 4 == 0 else f"i{n % 7}{'ä' * (n % 2)}", n * 0.5) for n in range(40)]
COLUMNS = "part int, `an.id` string, value double"


def doubling():
    """A task; a function within one, because workers cannot import the tests."""

    def run(batches):
        for batch in batches:
            yield batch.set_column(2, "value", pc.multiply(batch["value"], 2))

    return run


def test_each_partition_is_a_file_of_sorted_rows(spark, tmp_path):
    """Nulls are first and texts in the order of their bytes, as in every other file of the lake."""
    rows = spark.createDataFrame(ROWS, COLUMNS).repartitionById(3, "part")
    keys = ["an.id", "value"]
    write_by_workers(rows, doubling(), tmp_path / "table", keys, 3)
    names = [file.name for file in sorted((tmp_path / "table").iterdir())]
    assert names == [f"part-0000{number}-of-00003.parquet" for number in range(3)]
    spark_sorted = rows.sortWithinPartitions("`an.id`", "value")
    spark_sorted.write.parquet(str(tmp_path / "spark"))
    for number, file in enumerate(sorted((tmp_path / "spark").glob("part-*"))):
        expected = parquet.read_table(file)
        found = parquet.read_table(tmp_path / "table" / names[number])
        assert found.drop_columns("value").equals(expected.drop_columns("value"))
        halves = pc.divide(found["value"], 2)
        assert halves.equals(expected["value"])


def test_the_first_file_holds_the_columns_of_a_table_without_rows(spark, tmp_path):
    rows = spark.createDataFrame([], COLUMNS).repartitionById(2, "part")
    write_by_workers(rows, doubling(), tmp_path / "table", ["value"], 2)
    (file,) = (tmp_path / "table").iterdir()
    assert file.name == "part-00000-of-00002.parquet"
    table = parquet.read_table(file)
    assert (table.column_names, len(table)) == (["part", "an.id", "value"], 0)


def test_rows_that_are_spread_otherwise_are_refused(spark, tmp_path):
    """A join after the cut would leave fewer files, each with rows of all times."""
    rows = spark.createDataFrame(ROWS, COLUMNS).repartitionById(2, "part")
    with pytest.raises(RuntimeError, match="4 partitions were to be written .* numbers \\[0, 1\\]"):
        write_by_workers(rows, doubling(), tmp_path / "table", ["value"], 4)
