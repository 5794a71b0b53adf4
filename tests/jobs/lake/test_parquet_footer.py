"""The one thing that differs between two JVMs in a Parquet file is sorted, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import DAYS, write_edges

from jobs.lake.parquet_footer import NotParquet, sort_encodings
from jobs.settings import Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.steps import land

# In the order of the numbers that the format gives them.
ORDER = ["PLAIN", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "RLE_DICTIONARY"]
TABLE = pa.table(
    {
        "id": ["a", "b", None] * 50,
        "n": list(range(150)),
        "deep": [{"x": [1.5, None], "yes": True}] * 150,
    }
)


def encodings(file) -> list[tuple[str, ...]]:
    """The encodings of every column and row group, by Arrow's reader of footers."""
    metadata = pq.read_metadata(file)
    columns = []
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            columns.append(metadata.row_group(group).column(column).encodings)
    return columns


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dictionary": False}, {"row_group_size": 9, "column_encoding": None}],
    ids=str,
)
def test_encodings_are_sorted_and_the_rows_stay_the_same(tmp_path, options):
    file = tmp_path / "part.parquet"
    pq.write_table(TABLE, file, **options)
    before = encodings(file)
    size = file.stat().st_size
    sort_encodings(file)
    assert encodings(file) == [tuple(sorted(names, key=ORDER.index)) for names in before]
    assert encodings(file) != before
    assert file.stat().st_size == size
    assert pq.read_table(file) == TABLE


@pytest.mark.parametrize("keep", [0, 3, 8, 200, -1])
def test_a_truncated_file_is_named_and_left_untouched(tmp_path, keep):
    file = tmp_path / "part.parquet"
    pq.write_table(TABLE, file)
    file.write_bytes(file.read_bytes()[:keep])
    before = file.read_bytes()
    with pytest.raises(NotParquet, match=r"part\.parquet is not a complete Parquet file: .*again"):
        sort_encodings(file)
    assert file.read_bytes() == before


def test_a_damaged_footer_is_named(tmp_path):
    """The footer claims a list of more row groups than its bytes can hold."""
    file = tmp_path / "part.parquet"
    footer = bytes([0x49, 0xFC, 0xFF, 0x7F])  # field 4, a list, of 16383 structs
    file.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(NotParquet, match="its footer is damaged"):
        sort_encodings(file)


LAND = """
import sys
from datetime import date
from jobs import settings
from jobs.spark import session
from jobs.steps import land

chosen = settings.Settings.model_validate_json(sys.argv[1])
land.run(session.spark_session(chosen), chosen, date(2024, 3, 1))
"""


@pytest.mark.slow
def test_another_jvm_writes_the_same_bytes(spark, connect, tmp_path):
    """That of the Connect server."""
    source = EdgelistSettings(kind="edgelist", path=write_edges(tmp_path / "edges.txt.gz"))
    here = Settings(home=tmp_path / "here", source=source)
    remote = SparkSettings(remote=connect)
    there = Settings(home=tmp_path / "there", source=source, spark=remote)
    land.run(spark, here, DAYS[0])
    command = [sys.executable, "-c", LAND, there.model_dump_json()]
    subprocess.run(command, check=True, capture_output=True)
    assert there.lake.get("land", DAYS[0]).files == here.lake.get("land", DAYS[0]).files
