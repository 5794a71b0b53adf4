"""The compared factorisations: the meaning of their targets, and their fold-in."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.embedders.als import ALSConfig
from embeddings.embedders.cooccurrence import Options
from embeddings.spaces.similarity import mean_cosine
from jobs.reports.methods import ALS, LABELS, SVD, Cooccurrence, candidates


def random_matrix(n: int, m: int, density: float, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, x.nnz).astype(np.float64)
    return x


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_svd_targets_rank_by_expected_strength(smoothing):
    """At full rank that is the strength: u · target_j · √(row sum, smoothed) = x_ij."""
    x = random_matrix(30, 12, 0.5, 0)
    model = SVD(12, smoothing).fit(x, 0)
    row_sums = np.asarray(x.sum(axis=1)) + smoothing * x.sum() / 30
    expected = model.consumers @ model.targets.T * np.sqrt(row_sums)
    np.testing.assert_allclose(expected, x.toarray(), atol=1e-4)


@pytest.mark.parametrize(
    "method",
    [SVD(6, 1.0), ALS(ALSConfig(dim=6, iterations=40)), Cooccurrence(Options(epochs=2), 6)],
    ids=["svd", "als", "cooccurrence"],
)
def test_folding_in_fitted_consumers_gives_their_vectors(method):
    """SVD and co-occurrence up to rounding, ALS as far as it has converged."""
    x = random_matrix(120, 60, 0.2, 1)
    model = method.fit(x, 0)
    folded = model.fold_in.fold(x)
    assert mean_cosine(folded, model.consumers) > 0.999
    assert np.linalg.norm(folded - model.consumers) < 0.03 * np.linalg.norm(model.consumers)


def test_every_candidate_has_the_name_and_the_label_of_its_table():
    for name, methods in candidates().items():
        assert {method.name for method in methods} == {name}
        assert len({method.options for method in methods}) == len(methods)
        assert name in LABELS
