"""A long day in stretches of time: where it is cut depends on its rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from ranker_lake import DAYS, commit_validated, impressions, ranker_settings

from jobs.features import stretches
from jobs.features.stretches import stretch_of_minutes
from jobs.lake.store import Partition
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
    """The rows and their order are those of one file; the bytes do not depend on the input's."""
    shown = impressions(DAYS[0], ROWS)
    whole = built(spark, tmp_path / "whole", shown, 2)
    monkeypatch.setattr(stretches, "STRETCH", 170)
    cut = built(spark, tmp_path / "cut", shown, 2)
    shuffled = shown.take(np.random.default_rng(0).permutation(ROWS))
    again = built(spark, tmp_path / "again", shuffled, 5)
    names = [f"examples/part-0000{number}-of-00004.parquet" for number in range(4)]
    assert [name for name in cut.files if name.startswith("examples/")] == names
    rows = [pq.read_metadata(cut.path / name).num_rows for name in names]
    assert sum(rows) == ROWS
    assert max(rows) < 170
    assert (cut.digest, cut.facts) == (again.digest, whole.facts)
    assert pq.read_table(cut.path / "examples") == pq.read_table(whole.path / "examples")
