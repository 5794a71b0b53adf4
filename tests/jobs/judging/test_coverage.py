"""The shares of a day's engaged consumers and producers who have a vector."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.judging.coverage import coverage
from jobs.lake.store import Lake

DAY = date(2024, 3, 1)


def test_who_is_engaged_with_and_has_a_vector_counts_once(tmp_path):
    rows = [  # consumer, producer, kind, value
        ("a", "x", "click", 1.0),
        ("a", "y", "click", 1.0),
        ("b", "x", "click", 1.0),
        ("c", "x", "click", 1.0),
        ("d", "z", "hate", 1.0),  # does not count
        ("e", "z", "click", 0.0),  # nor does this
    ]
    lake = Lake(tmp_path)
    with lake.writing("validate", DAY, recipe="any") as staging:
        folder = staging.path / "engagements"
        folder.mkdir()
        for number, part in enumerate((rows[:2], rows[2:])):
            columns = [list(values) for values in zip(*part, strict=True)]
            table = pa.table(columns, names=["consumer_id", "producer_id", "kind", "value"])
            pq.write_table(table, folder / f"part-{number}.parquet")
    day = lake.get("validate", DAY)
    published = {
        "consumer": [np.array([b"a", b"d"]), np.array([b"b"]), np.empty(0, "S1")],
        "producer": [np.array([b"x", b"z"])],
    }
    shares = coverage(day, {"hate": 0.0}, published)
    assert shares == {"coverage_consumer": 2 / 3, "coverage_producer": 1 / 2}
    assert coverage(day, {"click": 0.0, "hate": 0.0}, published) == {}
