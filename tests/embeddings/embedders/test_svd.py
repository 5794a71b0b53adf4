"""The SVD against dense linear algebra and SciPy, on one worker and on several."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import svds

from embeddings.embedders.svd import factorize, leading, truncated_svd
from embeddings.kernels import lanczos
from embeddings.kernels.communicator import SingleWorker, run_threads
from embeddings.kernels.gram_product import BLOCK, add_gram_block, add_gram_product
from embeddings.kernels.lanczos import NotConverged, capacity
from embeddings.kernels.normalize import normalize


def random_counts(n: int, m: int, density: float, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, len(x.data)).astype(float)
    return x


def communities(n: int, m: int, groups: int, per_row: int = 20, seed: int = 0) -> sp.csr_matrix:
    """Consumers who mostly engage within one community: one strong direction per community."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n), per_row)
    size = m // groups
    first = rng.integers(0, groups, n)[rows] * size
    within = first + rng.integers(0, size, len(rows))
    columns = np.where(rng.random(len(rows)) < 0.8, within, rng.integers(0, m, len(rows)))
    return normalize(sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, m)))


def dense_singular_values(x: sp.csr_matrix) -> np.ndarray:
    """All singular values, descending: the roots of XᵀX's eigenvalues, faster than a dense SVD."""
    eigenvalues = np.linalg.eigvalsh((x.T @ x).toarray())
    return np.sqrt(np.maximum(eigenvalues[::-1], 0))


def test_the_gram_product_is_xt_x_q():
    x = random_counts(50, 30, 0.2)
    q = np.random.default_rng(1).normal(size=(30, 7))
    out = np.zeros_like(q)
    add_gram_product(x.indptr, x.indices, x.data, q, out)
    np.testing.assert_allclose(out, x.T @ (x @ q))


@given(st.integers(0, 60), st.integers(0, 1000))
@settings(max_examples=30)
def test_the_register_kernel_agrees_with_scipy(n, seed):
    """Rows of any length, also empty and odd ones."""
    x = random_counts(n, 40, 0.1, seed).astype(np.float32)
    q = np.random.default_rng(seed).normal(size=(40, BLOCK)).astype(np.float32)
    out = np.zeros_like(q)
    add_gram_block(x.indptr, x.indices, x.data, q, out)
    np.testing.assert_allclose(out, x.T @ (x @ q), rtol=1e-4, atol=1e-3)


def test_the_largest_singular_value_of_a_normalised_matrix_is_one():
    """x̂ is a bipartite random walk: √row sums and √column sums are singular vectors with σ = 1."""
    sigma, _ = truncated_svd(normalize(random_counts(300, 200, 0.05)), k=4)
    assert sigma[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "k"),
    [(20, 12, 5), (300, 150, 5), (500, 900, 32), (2000, 1500, 100)],
    ids=["smaller than the basis", "Lanczos", "wide", "restarted"],
)
def test_it_agrees_with_the_dense_svd(n, m, k):
    """Singular values and the residual of x are unique, even where singular vectors are not."""
    x = normalize(random_counts(n, m, 0.05))
    sigma, v = truncated_svd(x, k, tolerance=1e-4)
    dense_sigma = dense_singular_values(x)
    np.testing.assert_allclose(sigma, dense_sigma[:k], rtol=1e-5)
    residual = np.linalg.norm(x.toarray() - x @ v @ v.T)
    assert residual == pytest.approx(np.sqrt(np.sum(dense_sigma[k:] ** 2)), rel=1e-5)


@pytest.mark.parametrize("groups", [20, 500], ids=["gap after k", "no gap"])
def test_it_agrees_with_arpack_with_and_without_a_spectral_gap(groups):
    x = communities(5000, 2000, groups)
    sigma, _ = truncated_svd(x, k=20)
    exact = np.sort(svds(x, k=20, return_singular_vectors=False))[::-1]
    assert np.mean(np.abs(sigma - exact) / exact) < 1e-3


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_every_pair_meets_the_promised_residual(tolerance):
    """‖XᵀXv − σ²v‖ <= tol · σ₁² in float64, plus half a tolerance for the solver's float32."""
    x = communities(3000, 1500, 300)
    sigma, v = truncated_svd(x, k=30, tolerance=tolerance)
    residuals = np.linalg.norm(x.T @ (x @ v) - v * sigma**2, axis=0)
    assert residuals.max() <= 1.5 * tolerance * sigma[0] ** 2


def test_the_vectors_are_orthonormal_after_restarts():
    x = communities(3000, 1500, 300)
    _, v = truncated_svd(x, k=30, tolerance=1e-4)
    np.testing.assert_allclose(v.T @ v, np.eye(30), atol=1e-5)


@pytest.mark.parametrize("threads", [2, 3])
def test_several_workers_find_what_one_finds(threads):
    x = communities(3000, 1500, 20)
    one = factorize(x, 20)
    several = factorize(x, 20, threads=threads)
    np.testing.assert_allclose(several.singular_values, one.singular_values, rtol=1e-5)
    products = several.consumers @ several.producers.T
    np.testing.assert_allclose(products, one.consumers @ one.producers.T, atol=1e-3)


def test_a_worker_without_rows_takes_part():
    """A small matrix has fewer blocks than Spark has tasks."""
    x = normalize(random_counts(300, 200, 0.05))
    (sigma, _), _ = run_threads(2, lambda comm: leading(x if comm.rank else x[:0], 5, comm))
    np.testing.assert_allclose(sigma, truncated_svd(x, 5)[0], rtol=1e-5)


def test_the_same_matrix_gives_the_same_bytes():
    x = normalize(random_counts(400, 200, 0.05))
    first = factorize(x, 8, threads=2)
    second = factorize(x, 8, threads=2)
    assert first.consumers.tobytes() == second.consumers.tobytes()


def test_another_seed_finds_the_same_directions():
    """The start is random, the result is not: signs are fixed."""
    x = communities(3000, 1500, 20)
    _, first = truncated_svd(x, 20, seed=0, tolerance=1e-5)
    _, second = truncated_svd(x, 20, seed=1, tolerance=1e-5)
    np.testing.assert_allclose(first, second, atol=1e-2)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 400), st.integers(1, 40), st.integers(0, 100))
def test_missing_directions_are_columns_of_zeros(n, m, k, seed):
    """The width does not depend on the day; the existing directions are right for any shape."""
    x = random_counts(n, m, 0.3, seed)
    sigma, v = truncated_svd(x, k, tolerance=1e-4)
    assert sigma.shape == (k,)
    assert v.shape == (m, k)
    dense = np.linalg.svd(x.toarray(), compute_uv=False)[:k]
    expected = np.pad(dense, (0, k - len(dense)))
    np.testing.assert_allclose(sigma, expected, atol=2e-3 * max(dense.max(), 1e-9))
    assert not v[:, sigma == 0].any()


@pytest.mark.parametrize("tolerance", [5e-3, 1e-4])
def test_more_copies_of_a_value_than_a_block_has_columns_are_all_found(tolerance):
    """80 islands, each a direction with σ = 1, beside a crowd with weak directions."""
    crowd = normalize(random_counts(3000, 2000, 0.01))
    island = normalize(sp.csr_matrix(np.ones((2, 1))))
    x = sp.block_diag([crowd, *[island] * 80], format="csr")
    sigma, v = truncated_svd(x, 100, tolerance=tolerance)
    assert np.sum(sigma > 0.99) == 81
    dense = dense_singular_values(x)[:100]
    np.testing.assert_allclose(sigma, dense, atol=tolerance)
    residuals = np.linalg.norm(x.T @ (x @ v) - v * sigma**2, axis=0)
    assert residuals.max() <= tolerance


def test_a_producer_without_engagements_has_no_direction():
    """Not even a remainder of the random start, which would reach folded-in consumers."""
    x = sp.csr_matrix(random_counts(400, 300, 0.05).multiply(np.arange(300) % 3 > 0))
    _, v = truncated_svd(x, 20)
    assert not v[::3].any()
    assert (np.abs(v).sum(axis=1) > 0).sum() == 200


def test_entries_whose_squares_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="normalise the matrix"):
        truncated_svd(random_counts(400, 300, 0.05) * 1e25, 20)


def test_a_tolerance_that_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match="at least 1e-07"):
        truncated_svd(random_counts(40, 30, 0.05), 5, tolerance=1e-9)


def test_progress_reports_falling_residuals():
    x = communities(3000, 1500, 300)
    columns: list[int] = []
    worst: list[float] = []

    def progress(multiplied: int, residuals: np.ndarray) -> None:
        columns.append(multiplied)
        worst.append(residuals.max())

    leading(x, 20, SingleWorker(), progress=progress)
    assert len(columns) > 1
    assert columns == sorted(columns)
    assert worst[-1] < worst[0]


def test_a_solver_that_does_not_converge_stops_at_its_limit(monkeypatch):
    """A flat spectrum and two restarts: the error names the residual and the remedy."""
    monkeypatch.setattr(lanczos, "MAX_RESTARTS", 2)
    x = random_counts(4000, 3000, 0.002)
    with pytest.raises(NotConverged, match=r"within 2 restarts.*wanted 1e-07.*Raise the tolerance"):
        truncated_svd(normalize(x), 20, tolerance=1e-7)


def test_the_basis_always_has_room_for_the_next_block():
    for k in (1, 16, 33, 100, 1000):
        assert capacity(k) >= k + 32
