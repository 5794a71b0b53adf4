"""The log in memory: windows of small days, and six validated days of a lake."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import scipy.sparse as sp
from ranker_lake import DAYS, impressions

from jobs.reports.daily_log import Log, LoggedDay, read_log
from jobs.settings import MatrixSettings


def logged_day(
    number: int, pairs: list[tuple[int, int, float]], shape: tuple[int, int]
) -> LoggedDay:
    """A day of engagements (consumer, producer, strength)."""
    rows, columns, values = zip(*pairs, strict=True)
    strengths = sp.csr_matrix((values, (rows, columns)), shape=shape)
    events = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    return LoggedDay(date(2024, 1, 1) + timedelta(days=number), strengths, events, None)


def test_the_window_has_its_days_and_the_top_producers():
    """Of three days the last two; producer 2 has one consumer in them, the others two each."""
    shape = (3, 3)
    days = [
        logged_day(0, [(0, 2, 9.0)], shape),
        logged_day(1, [(0, 0, 1.0), (1, 1, 2.0)], shape),
        logged_day(2, [(0, 0, 3.0), (1, 0, 1.0), (0, 1, 1.0), (2, 2, 1.0)], shape),
    ]
    x, events = Log(days, None).window(2, MatrixSettings(window_days=2, producers=2))
    np.testing.assert_array_equal(x.toarray(), [[4, 1, 0], [1, 2, 0], [0, 0, 0]])
    assert events.tolist() == [3, 2, 0]


def test_all_strengths_have_no_empty_row():
    days = [
        logged_day(0, [(0, 0, 1.0)], (3, 2)),
        logged_day(1, [(0, 0, 2.0), (2, 1, 4.0)], (3, 2)),
    ]
    np.testing.assert_array_equal(Log(days, None).all_strengths().toarray(), [[3, 0], [0, 4]])


def test_the_log_has_the_validated_engagements(small_settings, log):
    """Every click and like of a day is one engagement; the weights are those of the settings."""
    clicks = sum(sum(impressions(day)["label_click"].to_pylist()) for day in DAYS)
    likes = sum(sum(impressions(day)["label_like"].to_pylist()) for day in DAYS)
    assert sum(day.events.sum() for day in log.days) == clicks + likes
    heavy = small_settings.model_copy(update={"matrix": MatrixSettings(weights={"like": 3.0})})
    weighted = read_log(heavy, print)
    assert sum(day.strengths.sum() for day in weighted.days) == clicks + 3 * likes


def test_a_ranker_reads_neither_ids_nor_past_counts(log):
    """Profile and context alone: what else the ranker knows of a consumer comes from vectors."""
    fields = {column.field for column in log.spec.categorical}
    assert fields == {"hour", "ctx_tab", "consumer_profile", "item_profile"}
    assert log.spec.numeric == ("num_consumer_fans", "num_item_length")
    assert log.spec.labels == ("label_click",)


def test_examples_are_the_impressions_in_time_order(log):
    table = impressions(DAYS[2]).sort_by([("time_ms", "ascending")])
    examples = log.days[2].examples
    np.testing.assert_array_equal(examples.labels[:, 0], table["label_click"].to_numpy())
    consumers = sorted({f"c{c}" for c in range(30)})
    assert [consumers[row] for row in examples.consumer_rows] == table["consumer_id"].to_pylist()
    assert np.isnan(examples.numbers[:, 0]).any()  # consumer c3 has no number of fans
