"""The user bootstrap against users drawn one by one, textbook intervals, and identities."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import (
    MEAN_RESAMPLES,
    Estimate,
    mean_estimate,
    mean_estimates,
    share_of_gain,
    user_bootstrap,
    weighted_mean,
)


def scored_rows(n_users: int, n_rows: int, signal: float, seed: int):
    """User ids, labels, and scores that are `signal` standard deviations higher for label 1."""
    rng = np.random.default_rng(seed)
    users = np.array([f"u{i}" for i in rng.integers(0, n_users, n_rows)])
    labels = rng.integers(0, 2, n_rows)
    return users, labels, labels * signal + rng.normal(size=n_rows), rng


def auc_gain(users, labels, old, new, resamples: int, seed: int) -> Estimate:
    """AUC(new) − AUC(old)."""
    aucs = {"old": partial(auc, labels, old), "new": partial(auc, labels, new)}
    estimates = user_bootstrap(users, aucs, resamples, seed)
    return estimates["new"] - estimates["old"]


# Draws


def test_the_bootstrap_draws_whole_users():
    """Weighting a user equals repeating all rows of that user: the AUCs agree draw by draw."""
    users, labels, scores, _ = scored_rows(9, 120, 0.5, seed=3)
    estimate = user_bootstrap(users, {"auc": partial(auc, labels, scores)}, 5, seed=11)["auc"]
    names = np.unique(users)
    draws = np.random.default_rng(11)
    expected = []
    for counts in draws.multinomial(len(names), np.full(len(names), 1 / len(names)), size=5):
        repeats = counts[np.searchsorted(names, users)]
        expected.append(auc(np.repeat(labels, repeats), np.repeat(scores, repeats)))
    np.testing.assert_allclose(estimate.draws, expected)
    assert estimate.value == auc(labels, scores)


def test_the_number_of_resamples_does_not_depend_on_the_chunks():
    """120 resamples begin with the 70 of a shorter run."""
    statistics = {"mean": partial(weighted_mean, np.arange(10.0))}
    short = user_bootstrap(np.arange(10), statistics, 70, seed=0)["mean"]
    long = user_bootstrap(np.arange(10), statistics, 120, seed=0)["mean"]
    assert len(long.draws) == 120
    np.testing.assert_array_equal(long.draws[:70], short.draws)


def test_statistics_share_their_draws():
    values = np.random.default_rng(0).normal(size=30)
    estimates = mean_estimates({"once": values, "twice": 2 * values}, seed=0)
    np.testing.assert_allclose(estimates["twice"].draws, 2 * estimates["once"].draws)
    assert estimates["once"].draws.shape == (MEAN_RESAMPLES,)


def test_rows_of_one_user_count_as_one_draw():
    """Twenty copies of every row by the same user do not narrow the interval."""
    users, labels, old, rng = scored_rows(60, 240, 0.5, seed=5)
    new = old + rng.normal(size=240) * 0.5
    once = auc_gain(users, labels, old, new, 200, seed=2)
    copies = [np.repeat(column, 20) for column in (users, labels, old, new)]
    repeated = auc_gain(*copies, 200, seed=2)
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low)


# Intervals


def test_the_interval_of_a_mean_is_the_textbook_one():
    """Mean ± 1.96 standard errors, for many users."""
    values = np.random.default_rng(0).normal(0.3, 0.2, 2000)
    estimate = mean_estimate(values, seed=1)
    error = 1.96 * values.std() / np.sqrt(2000)
    assert estimate.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert estimate.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_the_interval_separates_better_from_equal():
    """Clearly better: above zero. The same ranking: exactly zero. Clearly worse: below."""
    users, labels, weak, _ = scored_rows(300, 4000, 0.3, seed=0)
    strong = weak + 0.5 * labels
    assert auc_gain(users, labels, weak, strong, 200, seed=1).low > 0
    assert auc_gain(users, labels, strong, weak, 200, seed=1).high < 0
    assert auc_gain(users, labels, weak, 2 * weak, 200, seed=1) == Estimate(0.0, 0.0, 0.0)


def test_the_interval_covers_the_true_difference():
    """Two equally good, independent scores: of 60 intervals about 57 contain zero."""
    covering = 0
    for seed in range(60):
        users, labels, old, rng = scored_rows(100, 600, 0.5, seed)
        new = labels * 0.5 + rng.normal(size=600)
        estimate = auc_gain(users, labels, old, new, 100, seed)
        covering += estimate.low <= 0 <= estimate.high
    assert covering >= 51


def test_draws_without_a_value_are_ignored():
    """An AUC is undefined on draws with one class. The interval is that of the other draws."""
    users = np.arange(3)
    labels = np.array([0, 0, 1])
    estimate = user_bootstrap(users, {"auc": partial(auc, labels, users)}, 200, seed=0)["auc"]
    assert 0 < len(estimate.resamples) < 200
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_a_statistic_that_is_never_defined_is_nan():
    labels = np.ones(4)
    estimate = user_bootstrap(np.arange(4), {"auc": partial(auc, labels, labels)}, 50, seed=0)
    assert np.isnan([estimate["auc"].value, estimate["auc"].low, estimate["auc"].high]).all()
    assert len(estimate["auc"].resamples) == 0


def test_without_users_every_estimate_is_nan():
    nothing = np.zeros(0)
    estimate = mean_estimate(nothing, 0)
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    assert np.isnan(share_of_gain(estimate, estimate, estimate).value)
    assert np.isnan(weighted_mean(nothing))
    np.testing.assert_array_equal(weighted_mean(nothing, np.zeros((3, 0))), [np.nan] * 3)


# Arithmetic


def test_the_share_of_a_gain_of_a_small_example():
    """0.1 without, 0.3 in full, 0.25 kept: three quarters. Equal users make all draws equal."""
    values = {"none": np.full(50, 0.1), "full": np.full(50, 0.3), "kept": np.full(50, 0.25)}
    means = mean_estimates(values, seed=0)
    share = share_of_gain(means["kept"], means["full"], means["none"])
    assert (share.value, share.low, share.high) == pytest.approx((0.75, 0.75, 0.75))


def test_the_whole_gain_is_a_share_of_one():
    rng = np.random.default_rng(0)
    means = mean_estimates({"none": rng.random(30), "full": 1 + rng.random(30)}, seed=0)
    assert share_of_gain(means["full"], means["full"], means["none"]) == Estimate(1.0, 1.0, 1.0)


def test_a_share_of_no_gain_is_undefined():
    means = mean_estimates({"none": np.ones(30), "kept": np.ones(30)}, seed=0)
    assert np.isnan(share_of_gain(means["kept"], means["none"], means["none"]).value)


def test_an_estimate_prints_with_its_interval():
    assert str(Estimate(0.5, 0.25, 1.0)) == "0.5000 [0.2500, 1.0000]"
    fields = Estimate(0.5, 0.25, 1.0).fields("gain")
    assert fields == {"gain": 0.5, "gain_low": 0.25, "gain_high": 1.0}
