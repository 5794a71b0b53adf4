"""Metrics against their definitions: pairs counted one by one, users drawn one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.metrics import auc, log_loss, metrics_by_label, paired_bootstrap, relative_cross_entropy


def slow_auc(labels, scores, weights) -> float:
    """Every pair of a positive and a negative."""
    won = total = 0.0
    for i, j in itertools.product(np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)):
        pair = weights[i] * weights[j]
        won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
        total += pair
    return won / total


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_auc_counts_pairs(distinct):
    """With few distinct scores (many ties) and with many, weighted or not."""
    rng = np.random.default_rng(distinct)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, distinct, 60) / distinct
    weights = rng.integers(0, 4, (3, 60))
    assert auc(labels, scores) == pytest.approx(slow_auc(labels, scores, np.ones(60)))
    np.testing.assert_allclose(
        auc(labels, scores, weights), [slow_auc(labels, scores, w) for w in weights]
    )


def test_a_weight_is_a_repetition():
    """Weight 3 and three copies of the row are the same."""
    rng = np.random.default_rng(0)
    labels, scores, weights = (
        rng.integers(0, 2, 40),
        rng.normal(size=40).round(1),
        rng.integers(0, 4, 40),
    )
    assert auc(labels, scores, weights) == pytest.approx(
        auc(np.repeat(labels, weights), np.repeat(scores, weights))
    )


@pytest.mark.parametrize(
    ("scores", "expected"), [([0.1, 0.2, 0.9], 1.0), ([0.9, 0.8, 0.1], 0.0), ([0.5, 0.5, 0.5], 0.5)]
)
def test_auc_by_hand(scores, expected):
    """Perfect, upside down, and knowing nothing."""
    assert auc(np.array([0, 0, 1]), np.array(scores)) == expected


def test_one_class_has_no_auc_and_no_rce():
    """Where nothing happened, or everything did, both are not a number, and are not reported."""
    labels, p = np.ones((4, 1)), np.full((4, 1), 0.5)
    assert np.isnan(auc(labels[:, 0], p[:, 0]))
    assert np.isnan(relative_cross_entropy(labels[:, 0], p[:, 0]))
    assert set(metrics_by_label(labels, p, ("click",))) == {"log_loss_click"}


def test_log_loss_by_hand():
    """-mean(log p(what happened)); certainty that is wrong costs a lot, but not infinity."""
    assert log_loss(np.array([1, 0]), np.array([0.8, 0.4])) == pytest.approx(
        -(np.log(0.8) + np.log(0.6)) / 2
    )
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-np.log(1e-7))


def test_rce_is_zero_for_the_rate_and_hundred_for_the_truth():
    """Always guessing the rate knows nothing; the labels themselves know all; worse than the rate is negative."""
    labels = np.array([1, 0, 0, 0])
    assert relative_cross_entropy(labels, np.full(4, 0.25)) == pytest.approx(0)
    assert relative_cross_entropy(labels, labels.astype(float)) == pytest.approx(100, abs=1e-4)
    assert relative_cross_entropy(labels, np.full(4, 0.9)) < 0


def ranked(n_users: int, rows: int, signal: float, seed: int):
    """Users, labels, and scores that know `signal` standard deviations of the label."""
    rng = np.random.default_rng(seed)
    users = np.array([f"u{i}" for i in rng.integers(0, n_users, rows)])
    labels = rng.integers(0, 2, rows)
    return users, labels, labels * signal + rng.normal(size=rows), rng


def test_the_bootstrap_redraws_whole_users():
    """Its weights are those of drawing user ids and concatenating their rows: same differences, one by one."""
    users, labels, old, rng = ranked(9, 120, 0.5, seed=3)
    new = old + rng.normal(size=120)
    found = paired_bootstrap(users, labels, old, new, resamples=5, seed=11)
    names, draws = np.unique(users), np.random.default_rng(11)
    slow = []
    for counts in draws.multinomial(len(names), np.full(len(names), 1 / len(names)), size=5):
        rows = np.concatenate(
            [
                np.flatnonzero(users == u)
                for u, c in zip(names, counts, strict=True)
                for _ in range(c)
            ]
        )
        slow.append(auc(labels[rows], new[rows]) - auc(labels[rows], old[rows]))
    np.testing.assert_allclose(found.resamples, slow)


def test_the_interval_tells_better_from_equal():
    """Clearly better: above zero. The same scores: exactly zero. Clearly worse: below."""
    users, labels, weak, _ = ranked(300, 4000, 0.3, seed=0)
    strong = weak + 0.5 * labels
    assert paired_bootstrap(users, labels, weak, strong, 200, seed=1).low > 0
    assert paired_bootstrap(users, labels, strong, weak, 200, seed=1).high < 0
    same = paired_bootstrap(users, labels, weak, 2 * weak, 200, seed=1)
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_the_interval_covers_the_true_difference():
    """Two equally good, independent models: of 60 intervals about 57 hold zero."""
    held = 0
    for seed in range(60):
        users, labels, old, rng = ranked(100, 600, 0.5, seed)
        new = labels * 0.5 + rng.normal(size=600)
        interval = paired_bootstrap(users, labels, old, new, 100, seed)
        held += interval.low <= 0 <= interval.high
    assert held >= 51


def test_rows_of_one_user_count_as_one_draw():
    """A hundred copies of every row by the same user do not narrow the interval."""
    users, labels, old, rng = ranked(60, 240, 0.5, seed=5)
    new = old + rng.normal(size=240) * 0.5
    few = paired_bootstrap(users, labels, old, new, 200, seed=2)
    many = paired_bootstrap(*(np.repeat(x, 20) for x in (users, labels, old, new)), 200, seed=2)
    assert many.high - many.low == pytest.approx(few.high - few.low)
