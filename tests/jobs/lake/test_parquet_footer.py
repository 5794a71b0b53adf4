"""The one thing that differs between two JVMs in a Parquet file is put in order, and nothing else is touched."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import DAYS, write_edges

from jobs.lake.parquet_footer import sort_encodings
from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings
from jobs.steps import land

ORDER = [
    "PLAIN",
    "PLAIN_DICTIONARY",
    "RLE",
    "BIT_PACKED",
    "RLE_DICTIONARY",
]  # as the format numbers them
COLUMNS = {
    "id": ["a", "b", None] * 50,
    "n": list(range(150)),
    "deep": [{"x": [1.5, None], "yes": True}] * 150,
}


def encodings(file) -> list[tuple[str, ...]]:
    """What another reader of footers finds."""
    told = pq.read_metadata(file)
    return [
        told.row_group(g).column(c).encodings
        for g in range(told.num_row_groups)
        for c in range(told.num_columns)
    ]


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dictionary": False}, {"row_group_size": 9, "column_encoding": None}],
    ids=str,
)
def test_encodings_are_in_order_and_the_rows_are_the_same(tmp_path, options):
    file, table = tmp_path / "part.parquet", pa.table(COLUMNS)
    pq.write_table(table, file, **options)
    before, size = encodings(file), file.stat().st_size
    sort_encodings(file)
    assert encodings(file) == [tuple(sorted(names, key=ORDER.index)) for names in before]
    assert encodings(file) != before
    assert (file.stat().st_size, pq.read_table(file)) == (size, table)


LAND = """
import sys
from datetime import date
from jobs import settings
from jobs.spark import session
from jobs.steps import land

chosen = settings.Settings.model_validate_json(sys.argv[1])
land.run(session.spark_session(chosen), chosen, date(2024, 3, 1))
"""


def test_another_jvm_writes_the_same_bytes(spark, tmp_path):
    source = EdgelistSettings(kind="edgelist", path=write_edges(tmp_path / "edges.txt.gz"))
    here, there = (Settings(home=tmp_path / name, source=source) for name in ("here", "there"))
    land.run(spark, here, DAYS[0])
    subprocess.run(
        [sys.executable, "-c", LAND, there.model_dump_json()], check=True, capture_output=True
    )
    assert there.lake.get("land", DAYS[0]).files == here.lake.get("land", DAYS[0]).files
