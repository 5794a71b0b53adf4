"""Metrics on the device are those of NumPy, on any rows: ties, one class, none, odd numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.benchmarks import auc as by_numpy
from models import calibration, device_metrics, metrics
from models.ordering import in_order
from models.scratch import Scratch


@st.composite
def rows(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """users, labels and scores, float32 as those of a ranker; often equal, and few of a user."""
    n = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    distinct = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = (rng.integers(0, distinct + 1, n) / distinct).astype(np.float32)
    labels = (rng.random(n) < draw(st.sampled_from([0, 0.1, 0.5, 1]))).astype(np.float32)
    return rng.integers(0, draw(st.sampled_from([1, 8, 40])), n), labels, scores


def rows_of_metrics(numbers, labels, scores, piece: int) -> list[dict[str, str | float]]:
    """The rows of one label, of which a piece is in memory at a time."""
    users = device_metrics.Users.of(numbers)
    kinds = [("score", "f4"), ("happened", "?"), ("bucket", "u1")]
    rows = np.rec.fromarrays([scores, labels > 0, users.buckets], dtype=kinds)
    with Scratch(piece=piece) as scratch:
        figures = device_metrics.Figures(rows, users, scratch)
        for part in in_order(rows, "score", scratch):
            figures.add(part)
    return list(figures.rows("x"))


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@settings(deadline=None)
@given(rows(), st.sampled_from([3, 17, 1000]))
def test_every_metric_is_that_of_numpy(drawn, piece):
    users, labels, scores = drawn
    empty = not len(labels)
    expected = {
        "auc": by_numpy.auc(labels, scores),
        "log_loss": metrics.log_loss(labels, scores),
        "rce": metrics.relative_cross_entropy(labels, scores),
        "nrce": np.nan if empty or not scores.any() else metrics.normalised_rce(labels, scores),
        "ece": calibration.ece(labels, scores),
        "ndcg_5": np.nan if empty else metrics.ndcg(users, labels, scores, 5),
    }
    numbers = np.unique(users, return_inverse=True)[1].astype(np.int32)
    of_all = next(iter(rows_of_metrics(numbers, labels, scores, piece)), {"rows": 0})
    assert of_all.pop("rows") == len(labels)
    found = {name: value for name, value in of_all.items() if name not in ("users", "label")}
    assert found.keys() == {name for name, value in expected.items() if not np.isnan(value)}
    for name, value in found.items():
        assert value == pytest.approx(float(expected[name]), rel=1e-9, abs=1e-9), name


def test_buckets_have_the_users_with_so_many_rows():
    """One user with 1 row, one with 2, one with 12: the figures are those of these rows alone."""
    users = np.array([0, *[1] * 2, *[2] * 12], dtype=np.int32)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 15).astype(np.float32)
    scores = rng.random(15).astype(np.float32)
    found = rows_of_metrics(users, labels, scores, piece=4)
    assert [(row["users"], row["label"], row["rows"]) for row in found] == [
        (bucket, "x", rows) for bucket, rows in (("all", 15), ("1", 1), ("2-4", 2), ("10-19", 12))
    ]
    assert found[-1]["auc"] == pytest.approx(float(by_numpy.auc(labels[3:], scores[3:])))
    assert "auc" not in found[1]  # one row has one class


def test_normalised_rce_is_rce_of_calibrated_probabilities():
    """Twice too high, it is as good as the right ones; the base rate itself is worth nothing."""
    labels = np.array([1.0, 0, 0, 0, 1, 0, 0, 0])
    right = np.array([0.5, 0.2, 0.2, 0.1] * 2)
    assert right.mean() == labels.mean()
    expected = metrics.relative_cross_entropy(labels, right)
    assert metrics.normalised_rce(labels, right / 2) == pytest.approx(expected)
    assert metrics.relative_cross_entropy(labels, right / 2) < expected
    assert metrics.normalised_rce(labels, np.full(8, 0.9)) == pytest.approx(0)


def test_relative_improvement_is_of_the_distance_from_chance():
    assert metrics.relative_improvement(0.74, 0.70) == pytest.approx(20)
    assert np.isnan(metrics.relative_improvement(0.7, 0.5))
