"""SANSA: EASE with a sparse approximate inverse, for more producers than a dense one has room for.

    B = I − P̂ / diag(P̂), column by column,  where  P̂ = GᵀG ≈ (XᵀX + λI)⁻¹

G is lower triangular in the order of popularity, and sparse: row i has numbers only for producer i
and the few before it that are nearest to it by cosine, above zero. Among those, row i is exact:
with A the matrix XᵀX + λI of the row's producers, and e the unit vector of i,

    G_i = y / √y_i  where  A y = e

So with all producers before i in every row, P̂ is the inverse, and B that of EASE.

Sources: Spišák et al. 2023, "Scalable Approximate NonSymmetric Autoencoder for Collaborative
Filtering", RecSys, whose G comes from an incomplete Cholesky factor; Kolotilina & Yeremin 1993,
"Factorized Sparse Approximate Inverse Preconditionings I", whose rows these are.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.baselines import Scorer
from embeddings.baselines.item_item import cosines_of_columns

NUMBERS = 2**23  # of small systems that are in memory at once


def sansa(x: sp.csr_matrix, penalty: float, nearest: int) -> Scorer:
    """Fit SANSA. x: (n, m) strengths; penalty: λ > 0, as of EASE; nearest: producers in a row of G,
    besides its own.

    Takes memory for m · nearest numbers, and for the sparse XᵀX.
    """
    popular_first = np.argsort(-np.bincount(x.indices, minlength=x.shape[1]), kind="stable")
    factor = inverse_factor(x[:, popular_first], penalty, nearest)  # G
    factor = factor[:, np.argsort(popular_first)].tocsr()  # columns as in x
    diagonal = np.asarray(factor.multiply(factor).sum(axis=0)).ravel()  # of P̂
    left = factor.T.tocsr()
    right = (factor @ sp.diags(1 / diagonal)).tocsr()
    return lambda history: (history - history @ left @ right).toarray().astype(np.float32)


def inverse_factor(x: sp.csr_matrix, penalty: float, nearest: int) -> sp.csr_matrix:
    """G as above, (m, m), in the order of the columns of x."""
    m = x.shape[1]
    gram = (x.T @ x + penalty * sp.identity(m)).tocsr()
    pattern = nearest_before(cosines_of_columns(x), nearest)
    sizes = np.array([len(columns) for columns in pattern])
    by_size = np.argsort(sizes, kind="stable")
    values: list[np.ndarray] = [np.zeros(0)] * m
    start = 0
    while start < m:
        # Rows of one size are solved together.
        size = sizes[by_size[start]]
        stop = np.searchsorted(sizes[by_size], size, side="right")
        stop = min(stop, start + max(1, NUMBERS // size**2))
        rows = by_size[start:stop]
        solved = exact_rows(gram, np.stack([pattern[row] for row in rows]))
        for row, numbers in zip(rows, solved, strict=True):
            values[row] = numbers
        start = stop
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    return sp.csr_matrix((np.concatenate(values), np.concatenate(pattern), indptr), shape=(m, m))


def nearest_before(near: sp.csr_matrix, most: int) -> list[np.ndarray]:
    """For each row the `most` largest columns before it, ascending, and then the row itself."""
    before = sp.tril(near, -1, format="csr")
    found = []
    for row in range(near.shape[0]):
        part = slice(before.indptr[row], before.indptr[row + 1])
        columns, cosines = before.indices[part], before.data[part]
        if len(columns) > most:
            columns = columns[np.argpartition(-cosines, most)[:most]]
        found.append(np.append(np.sort(columns), row))
    return found


def exact_rows(gram: sp.csr_matrix, pattern: np.ndarray) -> np.ndarray:
    """y / √y_i of rows of one size s, (r, s). pattern: (r, s), the last column is i."""
    r, size = pattern.shape
    systems = np.empty((r, size, size))
    for n, columns in enumerate(pattern):
        systems[n] = gram[columns][:, columns].toarray()
    unit = np.zeros((r, size, 1))
    unit[:, -1] = 1.0
    y = np.linalg.solve(systems, unit)[:, :, 0]
    return y / np.sqrt(y[:, -1:])
