"""The formulas of the two fold-ins, each checked in a second way.

What every kind must satisfy is in test_fold_in_contract.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from fold_in_parts import CFG, random_strengths
from hypothesis import given
from hypothesis import strategies as st

from embeddings.embedders.als import ALSConfig, als
from embeddings.embedders.svd import factorize
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.normalize import normalize, smoothed


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_folding_in_a_fitted_consumer_gives_its_fitted_vector(smoothing):
    """The identity behind fold-in: x̂ V Σ^(-1/2) = U √Σ for a row of the fitted matrix."""
    x = random_strengths(120, 80, 0.1)
    sums = smoothed(np.asarray(x.sum(axis=0)).ravel(), x.shape[0], smoothing)
    factors = factorize(normalize(x, *sums), k=6)
    folded = SVDFoldIn(factors.fold_in, *sums).fold(x[:10])
    np.testing.assert_allclose(folded, factors.consumers[:10], atol=1e-6)


def test_svd_fold_in_against_a_slow_loop():
    x = random_strengths(5, 7, 0.5)
    rng = np.random.default_rng(1)
    sums = rng.uniform(1, 9, 7)
    sums[2] = 0.0  # a producer without engagements in the fit
    matrix = rng.normal(size=(7, 3)).astype(np.float32)
    slow = np.zeros((5, 3))
    for i, row in enumerate(x.toarray()):
        for j, strength in enumerate(row):
            if strength and sums[j]:
                slow[i] += strength / (np.sqrt(row.sum() + 2.5) * np.sqrt(sums[j])) * matrix[j]
    np.testing.assert_allclose(SVDFoldIn(matrix, sums, 2.5).fold(x), slow, atol=1e-6)


def test_parts_of_two_svd_versions_are_rejected():
    with pytest.raises(ValueError, match="7 producers, column sums of 6, a fold-in matrix of 7"):
        SVDFoldIn(np.ones((7, 3), np.float32), np.ones(6)).fold(random_strengths(2, 7, 0.5))


def test_a_history_of_another_als_version_is_rejected():
    folding = ALSFoldIn.of(als(random_strengths(20, 7, 0.5), CFG), CFG)
    with pytest.raises(ValueError, match="8 producers, a fold-in of 7"):
        folding.fold(random_strengths(2, 8, 0.5))


def test_als_rejects_a_strength_of_zero():
    folding = ALSFoldIn.of(als(random_strengths(20, 7, 0.5), CFG), CFG)
    with pytest.raises(ValueError, match="not above 0"):
        folding.fold(sp.csr_matrix(([0.0], [2], [0, 1]), shape=(1, 7)))


def test_als_fold_in_is_one_more_half_step_of_the_fit():
    """The consumers of an iteration are the fold-in against the producers of the one before."""
    x = random_strengths(90, 40, 0.2)
    before = als(x, CFG)
    after = als(x, ALSConfig(**{**vars(CFG), "iterations": CFG.iterations + 1}))
    np.testing.assert_allclose(ALSFoldIn.of(before, CFG).fold(x), after.consumers, atol=2e-6)


def test_als_fold_in_lands_where_the_loss_is_flat():
    """The gradient of the consumer's part of the loss, summed pair by pair, is zero there.

    The rows include both branches of the solver: fewer interactions than dimensions, and more.
    """
    x = random_strengths(60, 40, 0.3)
    factors = als(x, CFG)
    producers = factors.producers.astype(np.float64)
    new = random_strengths(12, 40, 0.25, seed=5)
    interactions = np.diff(new.indptr)
    assert interactions.min() < CFG.dim < interactions.max()
    folded = ALSFoldIn.of(factors, CFG).fold(new).astype(np.float64)
    for strengths, u in zip(new.toarray(), folded, strict=True):
        penalty = CFG.regularization * ((strengths > 0).sum() + CFG.unobserved_weight * 40)
        gradient = penalty * u
        for strength, v in zip(strengths, producers, strict=True):
            gradient += CFG.unobserved_weight * (u @ v) * v
            if strength:
                gradient += strength * (u @ v - 1) * v
        np.testing.assert_allclose(gradient, 0, atol=2e-6)


@given(
    n=st.integers(0, 12),
    m=st.integers(1, 40),
    k=st.integers(1, 24),
    density=st.floats(0, 1),
    exponent=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_als_fold_in_agrees_with_a_dense_solve_for_any_shape(n, m, k, density, exponent, seed):
    rng = np.random.default_rng(seed)
    producers = rng.normal(size=(m, k)).astype(np.float32)
    x = random_strengths(n, m, density, seed)
    v = producers.astype(np.float64)
    eigenvalues, axes = np.linalg.eigh(v.T @ v)
    folding = ALSFoldIn(
        vectors=(v @ axes).astype(np.float32),
        eigenvalues=eigenvalues.clip(0),
        axes=axes.astype(np.float32),
        unobserved_weight=0.3,
        regularization=0.1,
        frequency_exponent=exponent,
    )
    for strengths, u in zip(x.toarray(), folding.fold(x), strict=True):
        penalty = 0.1 * ((strengths > 0).sum() + 0.3 * m) ** exponent
        system = 0.3 * v.T @ v + (v.T * strengths) @ v + penalty * np.eye(k)
        expected = np.linalg.solve(system, v.T @ strengths)
        np.testing.assert_allclose(u, expected, atol=1e-5 * max(1.0, np.linalg.norm(expected)))


def test_a_kinds_class_can_be_imported_from_the_package():
    import embeddings.fold_in
    from embeddings.fold_in import svd

    assert embeddings.fold_in.SVDFoldIn is svd.FOLD_IN
    with pytest.raises(AttributeError, match="no attribute 'PCAFoldIn'"):
        _ = embeddings.fold_in.PCAFoldIn
