"""The maths of one version, each formula checked by another road."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from embeddings.align import mean_cosine, procrustes
from embeddings.normalize import normalize


def random_counts(n: int, m: int, density: float, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, len(x.data)).astype(float)
    return x


def test_normalisation_by_hand():
    """Row sums 3 and 4, column sums 1, 6: 1/√(3·1), 2/√(3·6), 4/√(4·6)."""
    x = normalize(sp.csr_matrix([[1.0, 2.0], [0.0, 4.0]])).toarray()
    np.testing.assert_allclose(x, [[1 / np.sqrt(3), 2 / np.sqrt(18)], [0, 4 / np.sqrt(24)]])


def test_an_empty_row_or_column_stays_zero():
    x = normalize(sp.csr_matrix([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(x.toarray(), [[1, 0], [0, 0]])


@given(st.integers(0, 10_000))
def test_procrustes_undoes_any_rotation(seed):
    rng = np.random.default_rng(seed)
    anchor = rng.normal(size=(30, 5))
    turned = anchor @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    rotation = procrustes(turned, anchor)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(turned @ rotation, anchor, atol=1e-8)


def test_no_other_rotation_comes_nearer():
    """Optimality, by trying: small further turns only make the residual larger."""
    rng = np.random.default_rng(3)
    vectors, anchor = rng.normal(size=(40, 4)), rng.normal(size=(40, 4))
    best = np.linalg.norm(vectors @ procrustes(vectors, anchor) - anchor)
    for _ in range(50):
        skew = rng.normal(size=(4, 4)) * 0.1
        turn = np.linalg.qr(np.eye(4) + skew - skew.T)[0]
        assert np.linalg.norm(vectors @ procrustes(vectors, anchor) @ turn - anchor) >= best - 1e-9


def test_mean_cosine_passes_over_zero_vectors():
    assert mean_cosine(np.array([[1.0, 0], [0, 0]]), np.array([[2.0, 0], [1, 1]])) == pytest.approx(1.0)
