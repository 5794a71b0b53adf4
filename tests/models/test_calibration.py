"""Calibration against scikit-learn and slow loops; the order of rows stays."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from embeddings.benchmarks.auc import auc
from models.calibration import (
    UNCALIBRATED,
    Calibration,
    Platt,
    ece,
    fit,
    fit_isotonic,
    fit_platt,
    logit,
)

RNG = np.random.default_rng(0)


def drawn(n: int, scale: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and float32 probabilities that are wrong by this scale and shift."""
    x = RNG.normal(-2, 1.5, n)
    labels = (RNG.random(n) < 1 / (1 + np.exp(-(scale * x + shift)))).astype(np.float32)
    return labels, (1 / (1 + np.exp(-x))).astype(np.float32)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (0.5, 1), (2, -1), (1, 3)])
def test_platt_is_the_logistic_regression_on_the_logit_with_smoothed_targets(scale, shift):
    """scikit-learn has no soft targets: every row enters twice, with the target as its weight."""
    labels, p = drawn(2000, scale, shift)
    n = labels.sum()
    target = np.where(labels > 0, (n + 1) / (n + 2), 1 / (len(labels) - n + 2))
    x = np.tile(logit(p), 2)[:, None]
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    peer.fit(x, np.repeat([1, 0], len(p)), np.concatenate([target, 1 - target]))
    found = fit_platt(labels, p)
    np.testing.assert_allclose(
        [found.scale, found.shift], [peer.coef_[0, 0], peer.intercept_[0]], rtol=1e-4, atol=1e-5
    )
    assert found(p).mean() == pytest.approx(target.mean(), abs=1e-6)  # where the loss is flat


@pytest.mark.parametrize("case", ["usual", "contradicted", "one score", "separated", "extremes"])
def test_platt_never_changes_the_order_of_rows(case):
    labels, p = drawn(1000, scale=0.7, shift=1)
    if case == "contradicted":
        labels = 1 - labels
    elif case == "one score":
        p = np.full_like(p, 0.3)
    elif case == "separated":
        labels = (p > 0.2).astype(np.float32)
    elif case == "extremes":
        p[:6] = [0, 1, 1e-45, 1 - 2**-24, 1e-44, 1 - 2**-23]
    found = fit_platt(labels, p)
    assert found.scale > 0
    assert np.isfinite([found.scale, found.shift]).all()
    assert auc(labels, found(p)) == auc(labels, p)


@pytest.mark.parametrize("ties", [False, True])
def test_isotonic_is_scikit_learns(ties):
    labels, p = drawn(400, scale=0.5)
    if ties:
        p = np.round(p, 1)
    peer = IsotonicRegression(out_of_bounds="clip").fit(p, labels)
    asked = np.r_[p, np.linspace(0, 1, 101)].astype(np.float32)
    np.testing.assert_allclose(fit_isotonic(labels, p)(asked), peer.predict(asked), atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 7, 333])
def test_ece_is_that_of_a_loop_over_bins(n):
    labels, p = drawn(n, shift=1)
    rows = sorted(zip(p.tolist(), labels.tolist(), strict=True), key=lambda row: row[0])
    size, larger = divmod(n, min(20, max(n, 1)))
    expected = 0.0
    while rows:
        width = size + (larger > 0)
        larger -= 1
        inside, rows = rows[:width], rows[width:]
        gap = sum(row[0] for row in inside) - sum(row[1] for row in inside)
        expected += abs(gap) / n
    assert ece(labels, p) == pytest.approx(expected if n else float("nan"), nan_ok=True)


def test_a_label_with_too_few_outcomes_keeps_its_probabilities():
    """Also one that never occurs, and one that always does: there is nothing to learn from."""
    _, p = drawn(100)
    for positives in (0, 19, 100):
        assert fit(np.arange(100) < positives, p) is None
    assert fit(np.arange(100) < 20, p) is not None
    scores = p[:, None]
    np.testing.assert_allclose(UNCALIBRATED(("never",), scores), scores, rtol=1e-6)


def test_a_calibration_is_the_same_after_json():
    calibration = Calibration("2024-01-01", {"label_click": Platt(1.2, -0.1)})
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert Calibration.from_json(UNCALIBRATED.to_json()) == UNCALIBRATED


@pytest.mark.parametrize(("positives", "scaled"), [(99, False), (100, True)])
def test_a_rare_label_is_shifted_and_not_scaled(positives, scaled):
    """Its rate is then that of the day, and the spread of its probabilities stays."""
    _, p = drawn(4000)
    found = fit(np.arange(4000) < positives, p)
    assert (found.scale != 1) == scaled
    assert found(p).mean() == pytest.approx(positives / 4000, rel=0.05)
