"""Degree normalisation, checked by hand."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.normalize import normalize


def test_normalisation_by_hand():
    """Row sums 3 and 4, column sums 1, 6: 1/√(3·1), 2/√(3·6), 4/√(4·6)."""
    x = normalize(sp.csr_matrix([[1.0, 2.0], [0.0, 4.0]])).toarray()
    np.testing.assert_allclose(x, [[1 / np.sqrt(3), 2 / np.sqrt(18)], [0, 4 / np.sqrt(24)]])


def test_an_empty_row_or_column_stays_zero():
    x = normalize(sp.csr_matrix([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(x.toarray(), [[1, 0], [0, 0]])
