"""Which of equal rows is kept does not depend on how they are found."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.checks import counting
from jobs.checks.row_rules import Rule, with_reason

COLUMNS = "consumer_id string, item_id string, value double, label_a int, at_a long"
IDS = [None, "", "a", "b", "ä"]
VALUES = [None, 0.0, -0.0, 1.0, float("nan"), float("inf")]


def random_rows(seed: int) -> list[tuple]:
    """Many are equal, in all columns or in some; every fifth is one of many that differ."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(200):
        ids = [IDS[rng.integers(len(IDS))], f"i{n}" if n % 5 == 0 else IDS[rng.integers(len(IDS))]]
        value = VALUES[rng.integers(len(VALUES))]
        rows.append((*ids, value, int(rng.integers(2)), int(rng.integers(3))))
    return rows


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("keys", [["consumer_id", "item_id"], ["consumer_id", "item_id", "value"]])
def test_only_rows_with_the_hash_of_another_row_are_compared(spark, keys, merge):
    """As when all are: with null, empty and odd values, rows with a fault, and none that repeat."""
    rules = [Rule("b", "is not b", "coalesce(consumer_id = 'b', false)")]
    rows = spark.createDataFrame(random_rows(seed=len(keys)), COLUMNS)
    for some in (rows, rows.where("consumer_id = 'a'")):
        repeated = counting.repeated_keys(some, keys)
        assert 0 < len(repeated) < some.count()
        found = with_reason(some, rules, keys, None, merge, repeated)
        every = with_reason(some, rules, keys, None, merge)
        # As texts, because NaN is not equal to itself.
        assert sorted(map(str, found.collect())) == sorted(map(str, every.collect()))


def test_keys_that_repeat_are_not_collected_where_they_are_many(spark, monkeypatch):
    rows = spark.createDataFrame(random_rows(0), COLUMNS)
    keys = len(counting.repeated_keys(rows, ["consumer_id"]))
    monkeypatch.setattr(counting, "MOST_REPEATED", keys)
    assert len(counting.repeated_keys(rows, ["consumer_id"])) == keys
    monkeypatch.setattr(counting, "MOST_REPEATED", keys - 1)
    assert counting.repeated_keys(rows, ["consumer_id"]) is None
