"""Table 5: who is new on a day, what is known of them, and every method from end to end."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from embeddings.benchmarks.tasks.base import NotJudged
from jobs.reports.newcomers import table5
from jobs.reports.newcomers.new_ones import new_ones
from jobs.reports.newcomers.new_ones_data import log_new_ones, timed_pairs, world_new_ones
from jobs.reports.newcomers.new_ones_methods import OnTheSeam, methods, timed
from jobs.reports.report import Report
from jobs.reports.tables.own_log import trusted_days
from jobs.reports.tables.problem import Pairs
from simulation.drift import Drift
from simulation.world import World

SMALL = World(
    consumers=700,
    producers=100,
    topics=4,
    impressions=6.0,
    drift=Drift(consumers=0.1, producers=0.1),
)


def pairs(*rows: tuple[bytes, bytes]) -> Pairs:
    consumers, producers = zip(*rows, strict=True)
    return Pairs(np.array(consumers), np.array(producers), np.ones(len(rows)))


WINDOW = pairs((b"a", b"x"), (b"a", b"y"), (b"b", b"y"), (b"b", b"z"))
TODAY = pairs(
    (b"a", b"x"), (b"a", b"n"), (b"d", b"n"), (b"d", b"z"), (b"d", b"y"), (b"e", b"x")
)  # n is a new producer, d and e are new users
TIMES = np.array([1, 2, 3, 5, 4, 6])


def test_who_is_new_is_asked_about_by_what_is_known():
    found = new_ones("it", WINDOW, TODAY, TIMES)
    assert (found.producer_ids.tolist(), found.new_producer_ids.tolist()) == (
        [b"x", b"y", b"z"],
        [b"n"],
    )
    assert found.consumer_ids[found.known.rows].tolist() == [b"a"]
    assert found.consumer_ids[found.new.rows].tolist() == [b"d", b"e"]
    np.testing.assert_array_equal(found.new.engaged.toarray(), [[0, 1, 1], [1, 0, 0]])
    assert found.new.elsewhere.tolist() == [1, 0]
    assert found.consumer_ids[found.of_new.rows].tolist() == [b"a"]


def test_the_first_engagement_is_known_and_not_asked_for_again():
    """That of d with one of the three is y, at 4; e has no other."""
    found = new_ones("it", WINDOW, TODAY, TIMES).begun
    assert len(found.rows) == 1
    np.testing.assert_array_equal(found.history.toarray(), [[0, 1, 0]])
    np.testing.assert_array_equal(found.engaged.toarray(), [[0, 0, 1]])
    assert (found.elsewhere.tolist(), found.repeats) == ([0], False)  # n came before


def test_what_a_user_did_before_the_known_engagement_does_not_follow_it():
    """With n last, at 7, it is asked about and cannot be found."""
    later = new_ones("it", WINDOW, TODAY, np.array([1, 2, 7, 5, 4, 6])).begun
    assert later.elsewhere.tolist() == [1]


def test_a_producer_that_is_not_learned_is_not_new():
    """z is left out of what is learned: on the day it can neither be found nor is it a newcomer."""
    found = new_ones("it", WINDOW, TODAY, TIMES, kept=np.array([True, True, True, False]))
    assert found.producer_ids.tolist() == [b"x", b"y"]
    assert found.new_producer_ids.tolist() == [b"n"]
    assert found.new.elsewhere.tolist() == [2, 0]  # d: n and z
    assert found.consumer_ids[found.new.rows].tolist() == [b"d", b"e"]


@pytest.fixture(scope="module")
def world():
    return world_new_ones(SMALL, 4)


def test_what_a_factorisation_does_not_know_it_ranks_by_popularity(world):
    learned = timed(OnTheSeam("svd", {}), world, 0)
    counts = np.bincount(world.x.indices, minlength=world.x.shape[1])
    np.testing.assert_array_equal(learned.users(world.new, np.arange(3)), np.tile(counts, (3, 1)))
    assert learned.users(world.begun, np.arange(3)).std(axis=0).any()  # folded in
    with pytest.raises(NotJudged, match="knows nothing"):
        table5.by_ndcg("of_new")(world, learned)
    assert learned.seconds > 0


def test_the_truth_itself_has_the_largest_share_of_itself(world):
    class Oracle:
        users = staticmethod(lambda asked, part: asked.rates[part])
        new_producers = users

    for column in table5.COLUMNS:
        judged = column.true(world, Oracle)
        assert judged.statistics["share"]() == pytest.approx(1)


def test_the_table_from_end_to_end(world, small_settings, tmp_path, monkeypatch):
    """With few epochs: what the methods do with more is not asked here."""
    quick: dict[str, dict[str, int]] = {
        "als": {"iterations": 4},
        "bag": {"epochs": 1, "batches": 10},
        "cooccurrence": {"epochs": 1, "batches": 10},
        "towers": {"epochs": 1},
    }
    kept = methods(world)
    for name, method in kept.items():
        if isinstance(method, OnTheSeam):
            options = method.options | quick.get(method.name, {})
            kept[name] = OnTheSeam(method.name, options)
    monkeypatch.setattr(table5, "methods", lambda problem: kept)
    report = Report(small_settings, "table5", 0, tmp_path / "out")
    table5.write(report, [world], [table5.measure(world, 1, lambda text: None)])
    with (report.folder / "table5-methods.csv").open(newline="") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert rows.keys() == kept.keys()
    know_new = {name for name, row in rows.items() if row["of_new"]}
    assert know_new == {"random", "bag, of producers", "two towers"}
    assert float(rows["svd"][table5.COST]) > 0
    text = (report.folder / "table5.md").read_text()
    assert "core-seconds per million pairs" in text
    agreed = json.loads((report.folder / "table5-agreement.json").read_text())["rows"]
    assert {row["column"] for row in agreed} == {column.name for column in table5.COLUMNS}
    pictures = {file.name for file in report.folder.glob("*.png")}
    assert pictures == {"table5-simulated.png", "table5-truth.png"}


def test_the_log_of_the_settings_is_asked_in_the_order_of_time(small_settings):
    """Its users are no new ones: all of them have been there before."""
    problem = log_new_ones(small_settings)
    assert problem.name == "edgelist"
    assert problem.consumers.rows.shape[0] == len(problem.consumer_ids)
    assert len(problem.known.rows) > 20
    pairs_of_day, times = timed_pairs(trusted_days(small_settings)[-1], {"like": 0.0})
    assert len(pairs_of_day) == len(times)
    assert times.min() > 0
