"""Metrics against their definitions, with pairs counted one by one, and against identities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from embeddings.benchmarks.auc import auc
from models.metrics import (
    auc_by_user,
    calibration_curve,
    gauc,
    log_loss,
    ndcg,
    ndcg_by_user,
    relative_cross_entropy,
    roc_curve,
)


def slow_auc(labels, scores, weights) -> float:
    """The definition: every pair of a positive and a negative."""
    won = total = 0.0
    for i, j in itertools.product(np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)):
        pair = weights[i] * weights[j]
        total += pair
        if scores[i] > scores[j]:
            won += pair
        elif scores[i] == scores[j]:
            won += pair / 2
    return won / total


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_auc_counts_pairs(distinct):
    """With few distinct scores (many ties) and with many, weighted or not."""
    rng = np.random.default_rng(distinct)
    labels = rng.integers(0, 2, 60)
    scores = rng.integers(0, distinct, 60) / distinct
    weights = rng.integers(0, 4, (3, 60))
    assert auc(labels, scores) == pytest.approx(slow_auc(labels, scores, np.ones(60)))
    expected = [slow_auc(labels, scores, w) for w in weights]
    np.testing.assert_allclose(auc(labels, scores, weights), expected)


def test_a_weight_is_a_repetition():
    """Weight 3 and three copies of the row give the same AUC."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    scores = rng.normal(size=40).round(1)
    weights = rng.integers(0, 4, 40)
    repeated = auc(np.repeat(labels, weights), np.repeat(scores, weights))
    assert auc(labels, scores, weights) == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("scores", "expected"), [([0.1, 0.2, 0.9], 1.0), ([0.9, 0.8, 0.1], 0.0), ([0.5, 0.5, 0.5], 0.5)]
)
def test_auc_of_perfect_reversed_and_constant_scores(scores, expected):
    assert auc(np.array([0, 0, 1]), np.array(scores)) == expected


@pytest.mark.parametrize(
    ("labels", "defined"),
    [
        ([1, 0, 1], {"auc_click", "log_loss_click", "rce_click"}),
        ([1, 1], {"log_loss_click"}),
        ([0], {"log_loss_click"}),
        ([], set()),
    ],
)
def test_what_is_defined_on_days_of_both_classes_one_and_none(labels, defined):
    """The table at the top of the module: NaN and no points, never an error or a warning."""
    y = np.array(labels, dtype=np.float32)
    p = np.linspace(0.2, 0.7, len(y)).astype(np.float32)
    found = {"auc_click": auc(y, p), "log_loss_click": log_loss(y, p)}
    found["rce_click"] = relative_cross_entropy(y, p)
    assert {name for name, value in found.items() if not np.isnan(value)} == defined
    by_draw = auc(y, p, np.ones((5, len(y))))
    assert by_draw.shape == (5,)
    assert np.isnan(by_draw).all() == ("auc_click" not in defined)
    for values in calibration_curve(y, p, bins=2):
        assert len(values) == min(2, len(y))
    for values in roc_curve(y, p):
        assert len(values) == (len(y) if "auc_click" in defined else 0)


def test_the_curves_of_a_small_example():
    """Two bins of two rows by rising probability; by falling score: hit, miss, hit, miss."""
    labels = np.array([0, 1, 0, 1])
    p = np.array([0.1, 0.3, 0.5, 0.9])
    predicted, happened = calibration_curve(labels, p, bins=2)
    np.testing.assert_allclose(predicted, [0.2, 0.7])
    np.testing.assert_allclose(happened, [0.5, 0.5])
    false_positives, true_positives = roc_curve(labels, p)
    np.testing.assert_allclose(false_positives, [0, 0.5, 0.5, 1])
    np.testing.assert_allclose(true_positives, [0.5, 0.5, 1, 1])


def test_log_loss_of_a_small_example():
    """−mean(log p(label)); a certain and wrong prediction costs a lot, but not infinity."""
    expected = -(np.log(0.8) + np.log(0.6)) / 2
    assert log_loss(np.array([1, 0]), np.array([0.8, 0.4])) == pytest.approx(expected)
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-np.log(1e-7))


def test_rce_is_zero_for_the_rate_and_100_for_the_truth():
    """The constant rate scores 0, the labels themselves 100, and worse than the rate < 0."""
    labels = np.array([1, 0, 0, 0])
    assert relative_cross_entropy(labels, np.full(4, 0.25)) == pytest.approx(0)
    assert relative_cross_entropy(labels, labels.astype(float)) == pytest.approx(100, abs=1e-4)
    assert relative_cross_entropy(labels, np.full(4, 0.9)) < 0


def shown_to_users(seed: int, distinct: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users with 1 to about 20 rows each, in any order; `distinct` different scores."""
    rng = np.random.default_rng(seed)
    users = rng.choice([f"u{i}" for i in range(40)], 300, p=rng.dirichlet(np.ones(40)))
    return users, rng.integers(0, 2, 300), rng.integers(0, distinct, 300) / distinct


@pytest.mark.parametrize("distinct", [1, 3, 1000])
def test_gauc_is_the_mean_of_the_users_own_aucs(distinct):
    """Against the AUC of one user after the other, weighted by rows; ties count half."""
    users, labels, scores = shown_to_users(distinct, distinct)
    values, rows = auc_by_user(users, labels, scores)
    total = weight = 0.0
    for position, user in enumerate(np.unique(users)):
        own = users == user
        value = auc(labels[own], scores[own])
        np.testing.assert_allclose(values[position], value)
        assert rows[position] == own.sum()
        if not np.isnan(value):
            total += own.sum() * value
            weight += own.sum()
    assert gauc(users, labels, scores) == pytest.approx(total / weight)


@pytest.mark.parametrize("top", [1, 5])
def test_ndcg_of_users_one_by_one(top):
    """Against a slow ranking of each user's rows; users with one class have none."""
    users, labels, scores = shown_to_users(1, 1000)
    slow = []
    for user in np.unique(users):
        own = users == user
        if len(set(labels[own])) == 2:
            by_score = labels[own][np.argsort(-scores[own], kind="stable")]
            discounts = 1 / np.log2(np.arange(2, 2 + top))
            gained = sum(by_score[:top] * discounts[: len(by_score)])
            best = sum(sorted(by_score, reverse=True)[:top] * discounts[: len(by_score)])
            slow.append(gained / best)
    values = ndcg_by_user(users, labels, scores, top)
    np.testing.assert_allclose(values[~np.isnan(values)], slow)
    assert ndcg(users, labels, scores, top) == pytest.approx(np.mean(slow))


def test_a_figure_by_user_is_undefined_where_nobody_has_both_classes():
    for users, labels in (([], []), (["a", "b"], [1, 0])):
        scores = np.zeros(len(users))
        assert np.isnan(gauc(np.array(users), np.array(labels), scores))
        assert np.isnan(ndcg(np.array(users), np.array(labels), scores, 5))
