"""Degree normalisation and its smoothing, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.embedders.svd import factorize
from embeddings.kernels.normalize import normalize, smoothed


def test_normalisation_by_hand():
    """Row sums 3 and 4, column sums 1, 6: 1/√(3·1), 2/√(3·6), 4/√(4·6)."""
    x = normalize(sp.csr_matrix([[1.0, 2.0], [0.0, 4.0]])).toarray()
    np.testing.assert_allclose(x, [[1 / np.sqrt(3), 2 / np.sqrt(18)], [0, 4 / np.sqrt(24)]])


def test_an_empty_row_or_column_stays_zero():
    x = normalize(sp.csr_matrix([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(x.toarray(), [[1, 0], [0, 0]])


def test_smoothing_by_hand():
    """Row sums 3, 4 and non-zero column sums 1, 6 have the mean 3.5; half of it is added."""
    x = sp.csr_matrix([[1.0, 2.0, 0.0], [0.0, 4.0, 0.0]])
    column_sums, row_extra = smoothed(np.array([1.0, 6.0, 0.0]), 2, 0.5)
    np.testing.assert_allclose(column_sums, [2.75, 7.75, 0.0])
    assert row_extra == 1.75
    expected = [
        [1 / np.sqrt(4.75 * 2.75), 2 / np.sqrt(4.75 * 7.75), 0],
        [0, 4 / np.sqrt(5.75 * 7.75), 0],
    ]
    np.testing.assert_allclose(normalize(x, column_sums, row_extra).toarray(), expected)


def test_smoothing_takes_islands_out_of_the_strongest_directions():
    """Two consumers share a producer no one else has: σ = 1 without smoothing, weak with it."""
    rng = np.random.default_rng(2)
    x = sp.block_diag([sp.random(200, 40, 0.3, random_state=rng), np.ones((2, 1))], format="csr")
    sums = np.asarray(x.sum(axis=0)).ravel()
    plain = factorize(normalize(x), 3)
    smooth = factorize(normalize(x, *smoothed(sums, 202, 3.0)), 3)
    assert np.linalg.norm(plain.consumers[-1]) == pytest.approx(1 / np.sqrt(2), rel=1e-4)
    assert np.linalg.norm(smooth.consumers[-1]) < 0.2
