"""The two fold-ins of co-occurrence, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize

from embeddings.embedders.cooccurrence import quadrature
from embeddings.fold_in.logistic import LogisticFoldIn
from embeddings.fold_in.mean import MeanFoldIn

RNG = np.random.default_rng(0)
K, M = 6, 40


def loss(u: np.ndarray, v: np.ndarray, s: np.ndarray, model: LogisticFoldIn) -> float:
    own = np.sum(s * np.logaddexp(0, -v @ u))
    noise = model.negatives * s.sum() * np.sum(model.shares * np.logaddexp(0, model.noise @ u))
    return float(own + noise + model.regularization / 2 * u @ u)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])  # of the vectors: flat, usual, saturated
@pytest.mark.parametrize("size", [1, 5, 40])
def test_the_logistic_fold_in_is_the_minimum_that_scipy_finds(scale, size):
    vectors = (scale * RNG.normal(size=(M, K))).astype(np.float32)
    shares = RNG.dirichlet(np.ones(M)).astype(np.float32)
    model = LogisticFoldIn(vectors, vectors, shares, negatives=5.0, regularization=0.5)
    columns = np.sort(RNG.choice(M, size, replace=False))
    strengths = RNG.integers(1, 5, size).astype(float)
    x = sp.csr_matrix((strengths, (np.zeros(size, int), columns)), shape=(1, M))
    arguments = (vectors[columns].astype(float), strengths, model)
    found = minimize(loss, np.zeros(K), args=arguments, tol=1e-10)
    folded = model.fold(x)[0].astype(float)
    assert loss(folded, *arguments) <= found.fun * (1 + 1e-9) + 1e-9
    np.testing.assert_allclose(folded, found.x, atol=2e-4 * max(1.0, np.abs(found.x).max()))


def test_the_mean_is_weighted_by_strengths_and_producers():
    """By hand: (2 · 1 · (1, 0) + 1 · 0.5 · (0, 4)) / 2.5."""
    model = MeanFoldIn(np.float32([[1, 0], [0, 4], [9, 9]]), np.float32([1, 0.5, 1]))
    folded = model.fold(sp.csr_matrix([[2.0, 1.0, 0.0]]))
    np.testing.assert_allclose(folded, [[0.8, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("m", [1, 10, 1000])
def test_few_rows_stand_for_the_expectation(m):
    """All of few, and of many at most as many as are wanted; the weights sum to one."""
    probabilities = RNG.dirichlet(np.ones(m))
    rows, weights = quadrature(probabilities, 100)
    assert len(rows) <= 100
    assert weights.sum() == pytest.approx(1)
    # A popular producer stands for itself.
    largest = int(probabilities.argmax())
    if m == 1000:
        values = np.cumsum(probabilities)
        assert weights @ values[rows] == pytest.approx(probabilities @ values, abs=0.01)
    else:
        assert weights[rows == largest] == pytest.approx(probabilities[largest], rel=1e-5)
