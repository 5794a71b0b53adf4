"""The parts of the decay report, each against a hand calculation, a slow loop or another road."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from embeddings.benchmarks.intervals import Estimate
from jobs.reports.daily_log import Log, LoggedDay
from jobs.reports.decay import budget, retrieval, words
from jobs.reports.decay.ages import TooFewDays, matrix_cells, plan_of
from jobs.reports.decay.metrics import log_losses, rces
from jobs.reports.decay.rankers import RankerDays
from jobs.reports.report import not_replayed
from jobs.settings import MatrixSettings
from models.metrics import log_loss, relative_cross_entropy

FIRST = date(2024, 1, 1)
RNG = np.random.default_rng(0)


def days_at(*offsets: int) -> list[date]:
    return [FIRST + timedelta(days=offset) for offset in offsets]


# Ages


@pytest.mark.parametrize(
    ("n", "oldest", "tests"),
    [
        (3, 1, [2]),
        (4, 1, [2, 3]),
        (5, 1, [2, 3, 4]),
        (6, 2, [3, 4, 5]),
        (13, 9, [10, 11, 12]),
        (20, 9, list(range(10, 20))),
    ],
)
def test_three_tested_days_are_preferred_to_a_higher_age(n, oldest, tests):
    plan = plan_of(days_at(*range(n)), "rows")
    assert (plan.oldest, plan.tests) == (oldest, tests)
    for test in tests:
        assert [plan.learned(test, age) for age in plan.ages] == [
            test - 1 - age for age in plan.ages
        ]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_days_in_which_nothing_grows_old_are_refused(n):
    with pytest.raises(TooFewDays, match=rf"days with rows \({n}\).*Widen --from and --to"):
        plan_of(days_at(*range(n)), "rows")


@given(st.sets(st.integers(0, 25), min_size=4))
def test_over_a_gap_nothing_is_known_that_is_younger_than_its_age(offsets):
    days = days_at(*sorted(offsets))
    try:
        plan = plan_of(days, "rows")
    except TooFewDays:
        assert days[-1] - days[0] < timedelta(days=2)
        return
    for test in plan.tests:
        for age in plan.ages:
            known = [day for day in days if day <= days[test] - timedelta(days=1 + age)]
            assert plan.learned(test, age) == len(known) - 1 >= 0


# Retrieval


def logged(day: date, counts: np.ndarray) -> LoggedDay:
    """A day of these numbers of engagements, (n, m), of strength 2 each."""
    return LoggedDay(day, sp.csr_matrix(2.0 * counts), sp.csr_matrix(1.0 * counts), None)


def random_log(n_days: int) -> Log:
    days = []
    for day in days_at(*range(n_days)):
        days.append(logged(day, RNG.integers(0, 3, (40, 30)) * (RNG.random((40, 30)) < 0.5)))
    return Log(days, None)


def test_an_equal_volume_is_the_newest_days_and_a_share_of_the_next():
    log = random_log(4)
    cfg = MatrixSettings()
    sizes = [day.events.sum() for day in log.days]
    volume = sizes[2] + 0.5 * sizes[1]
    part = retrieval.newest_engagements(log, 2, cfg, volume, seed=0)
    assert [day.day for day in part.days] == days_at(1, 2)
    assert part.days[1] is log.days[2]
    assert part.days[0].events.sum() == pytest.approx(0.5 * sizes[1], rel=0.15)
    # The same pairs of both, as they were.
    np.testing.assert_array_equal(
        part.days[0].strengths.toarray(), 2 * part.days[0].events.toarray()
    )
    assert (part.days[0].events.toarray() <= log.days[1].events.toarray()).all()


def test_all_engagements_of_the_window_are_its_own_volume():
    log = random_log(4)
    cfg = MatrixSettings(window_days=2)
    volume = log.days[1].events.sum() + log.days[2].events.sum()
    part = retrieval.newest_engagements(log, 2, cfg, volume, seed=0)
    assert part.days == log.days[1:3]


def test_a_consumer_without_a_vector_is_shown_what_is_popular():
    """And a producer that the fit does not have can not be found, however few there are."""
    x = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1.0]]))
    model = SimpleNamespace(producers=np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    fit = SimpleNamespace(x=x, columns=np.array([0, 2, 3]), fitted=np.ones(3, bool), model=model)
    engaged = sp.csr_matrix(np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0.0]]))
    vectors = np.array([[0, 5], [0, 0], [1, 0]], np.float32)
    ranking = retrieval.ranked(vectors, fit, engaged)
    # Ranks by hand: the first one's producer is last of 3, the second one's is the most popular.
    np.testing.assert_allclose(ranking.ndcg(20), [1 / np.log2(4), 1, 0])
    np.testing.assert_allclose(ranking.recall(20), [1, 1, 0])


# Rankers


@pytest.mark.parametrize(
    ("rows", "expected"), [(10, [3]), (29, [3]), (31, [2, 3]), (60, [2, 3]), (999, [0, 1, 2, 3])]
)
def test_an_equal_volume_of_rows_is_the_nearest_number_of_whole_days(rows, expected):
    days = RankerDays.__new__(RankerDays)
    days.rows = lambda position: [50, 40, 20, 20][position]
    assert days.newest_rows(3, rows) == expected


def test_weighted_metrics_are_those_of_repeated_rows():
    labels = RNG.integers(0, 2, 40).astype(np.float32)
    scores = RNG.random(40)
    weights = RNG.integers(0, 4, (3, 40))
    for position, counts in enumerate(weights):
        y, p = np.repeat(labels, counts), np.repeat(scores, counts)
        assert log_losses(labels, scores, weights)[position] == pytest.approx(log_loss(y, p))
        expected = relative_cross_entropy(y, p)
        assert rces(labels, scores, weights)[position] == pytest.approx(expected)
    assert rces(labels, scores) == pytest.approx(relative_cross_entropy(labels, scores))


# The budget rule


def steady_cells(n: int, loss_per_day: float) -> dict[tuple[int, int], float]:
    """A ranker loses the same on every day on which it is not retrained."""
    return {(last, test): 0.8 - loss_per_day * (test - 1 - last) for last, test in matrix_cells(n)}


@pytest.mark.parametrize(
    ("delta", "trained"),
    [
        (0.0, [0, 1, 2, 3, 4, 5, 6, 7]),  # every loss is at least zero
        (0.01, [0, 1, 2, 3, 4, 5, 6, 7]),  # as large as δ: it pays
        (0.011, [0, 1, 3, 5, 7]),  # one day is skipped, two are not
        (0.021, [0, 1, 4, 7]),  # two are skipped
    ],
)
def test_a_steady_loss_is_retrained_as_soon_as_it_reaches_delta(delta, trained):
    """By hand: with 0.01 a day, an age is skipped once it was seen and while 0.01 · age < δ."""
    n = 9
    replay = budget.replay(steady_cells(n, 0.01), days_at(*range(n)), delta)
    assert replay.trainings == trained
    for test, last in replay.served.items():
        assert last == max(position for position in trained if position < test)


def test_no_decision_knows_a_later_day():
    """Whatever the last days bring, the decisions before them are the same."""
    n, days = 9, days_at(*range(9))
    cells = steady_cells(n, 0.01)
    before = budget.replay(cells, days, 0.021)
    for cell in cells:
        if cell[1] >= 6:
            cells[cell] = RNG.random()
    after = budget.replay(cells, days, 0.021)
    early = [position for position in before.trainings if position < 6]
    assert early == [position for position in after.trainings if position < 6]


def test_an_age_counts_the_days_that_were_missed():
    days = days_at(0, 1, 4, 5)
    assert budget.age_of(days, last=1, test=2) == 0  # nothing happened in between
    assert budget.age_of(days, last=0, test=2) == 1
    assert budget.age_of(days, last=1, test=3) == 3


# Words


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high)


def test_a_sentence_has_the_loss_and_what_the_remedy_wins_back():
    remedy = words.Remedy("folding in", estimate(0.5, 0.4, 0.6), 0.125)
    loss = estimate(0.01, 0.008, 0.012)
    assert words.sentence(7, loss, "NDCG@20", words.Whole("it", 0.05), remedy) == (
        "After 7 days without a refresh, 0.0100 [0.0080, 0.0120] of NDCG@20 is lost (20.0% of it); "
        "folding in alone wins back 50% [40%, 60%] of it at 12% of the cost, in CPU seconds of the "
        "fits alone."
    )


def test_an_interval_with_zero_is_said_to_show_nothing():
    """And then nothing is said to be won back."""
    remedy = words.Remedy("folding in", estimate(2.0, -9, 9), 0.1)
    loss = estimate(0.001, -0.001, 0.003)
    assert words.sentence(1, loss, "AUC", words.Whole.of_auc(0.7), remedy) == (
        "After 1 day without a refresh, no loss of AUC can be shown: "
        "0.0010 [-0.0010, 0.0030] contains zero."
    )
    text = words.sentence(1, estimate(0.002, 0.001, 0.003), "AUC", words.Whole.of_auc(0.7), remedy)
    assert "wins back nothing that could be shown" in text


def test_a_gain_is_not_called_a_loss():
    text = words.difference(estimate(-0.002, -0.003, -0.001), "AUC")
    assert text == "AUC is higher by 0.0020 [0.0010, 0.0030]"


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ({}, []),
        ({"drop_top": 3}, ["The report leaves out matrix.drop_top of the settings."]),
        (
            {"half_life_days": 2.0, "rank_by": "like"},
            ["The report leaves out matrix.half_life_days, matrix.rank_by of the settings."],
        ),
    ],
)
def test_options_that_no_report_replays_are_named(matrix, said):
    assert not_replayed(SimpleNamespace(matrix=MatrixSettings(**matrix))) == said
