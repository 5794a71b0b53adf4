"""A long day in stretches of time: where it is cut depends on its rows alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranker_lake import DAYS, commit_validated, impressions, ranker_settings

from jobs.features import stretches
from jobs.features.stretches import stretch_of_minutes
from jobs.lake.store import Partition
from jobs.settings import SparkSettings
from jobs.steps import examples

ROWS = 600


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 20))
def test_stretches_follow_one_another_and_are_even(counts, n):
    """In order, below n; none has more rows than a fair share and one minute at each end."""
    found = stretch_of_minutes(np.array(counts), n)
    assert (np.diff(found) >= 0).all()
    assert found.max() < n
    rows = np.bincount(found, weights=counts)
    assert rows.max() <= sum(counts) / n + max(counts)


def built(spark, home, shown: pa.Table, partitions: int) -> Partition:
    settings = ranker_settings(home)
    spark_settings = settings.spark.model_copy(update={"partitions": partitions})
    settings = settings.model_copy(update={"spark": spark_settings})
    commit_validated(settings, DAYS[0], shown)
    examples.run(spark, settings, DAYS[0])
    return settings.lake.get("examples", DAYS[0])


def test_a_long_day_is_the_same_rows_in_several_files(spark, tmp_path, monkeypatch):
    """All of its rows, in order from file to file; the bytes do not depend on the input's."""
    monkeypatch.setattr(stretches, "STRETCH", 170)
    shown = impressions(DAYS[0], ROWS)
    cut = built(spark, tmp_path / "cut", shown, 2)
    shuffled = shown.take(np.random.default_rng(0).permutation(ROWS))
    again = built(spark, tmp_path / "again", shuffled, 5)
    assert cut.digest == again.digest
    # Profiles too large for every worker to have a copy are joined by their ids, not by time.
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        joined = built(spark, tmp_path / "joined", shown, 2)
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert joined.digest == cut.digest
    names = [f"examples/part-0000{number}-of-00004.parquet" for number in range(4)]
    assert [name for name in cut.files if name.startswith("examples/")] == names
    assert max(pq.read_metadata(cut.path / name).num_rows for name in names) < 170
    table, expected = pq.read_table(cut.path / "examples"), shown.sort_by("time_ms")
    for name in ("time_ms", "consumer_id", "item_id", "label_click"):
        assert table[name].to_pylist() == expected[name].to_pylist()
    clicks = sum(expected["label_click"].to_pylist())
    assert (cut.facts["rows"], cut.facts["rate_click"]) == (ROWS, clicks / ROWS)


ON_CONNECT = """
import sys
from datetime import date
from jobs.features import stretches
from jobs.settings import Settings
from jobs.spark.session import spark_session
from jobs.steps import examples

stretches.STRETCH = 170
settings = Settings.model_validate_json(sys.argv[1])
spark = spark_session(settings)
assert "connect" in type(spark).__module__, type(spark)
examples.run(spark, settings, date.fromisoformat(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_connect_session_writes_the_bytes_of_a_classic_one(spark, connect, tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "STRETCH", 170)
    shown = impressions(DAYS[0], ROWS)
    here = built(spark, tmp_path / "here", shown, 2)
    there = ranker_settings(tmp_path / "there")
    there = there.model_copy(update={"spark": SparkSettings(remote=connect)})
    commit_validated(there, DAYS[0], shown)
    command = [sys.executable, "-c", ON_CONNECT, there.model_dump_json(), str(DAYS[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert there.lake.get("examples", DAYS[0]).digest == here.digest
