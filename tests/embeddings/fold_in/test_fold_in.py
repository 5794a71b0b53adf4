"""Vectors of consumers left out of the fit: where the loss is flat, alone or in a batch, here or after a rotation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from embeddings.embedders.als import ALSConfig, als
from embeddings.embedders.svd import factorize
from embeddings.fold_in import ALSFoldIn, SVDFoldIn, restore
from embeddings.kernels.normalize import normalize, smoothed

CFG = ALSConfig(dim=6, iterations=5, unobserved_weight=0.2, regularization=0.01, solver="exact")


def random_strengths(n: int, m: int, density: float, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, len(x.data)).astype(float)
    return x


def random_rotation(k: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0]


def both_kinds(x: sp.csr_matrix) -> list[SVDFoldIn | ALSFoldIn]:
    """The two fold-ins of a fit of x."""
    sums = smoothed(np.asarray(x.sum(axis=0)).ravel(), x.shape[0], 1.0)
    return [
        SVDFoldIn(factorize(normalize(x, *sums), k=6).fold_in, *sums),
        ALSFoldIn.of(als(x, CFG), CFG),
    ]


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_svd_folding_in_a_fitted_consumer_gives_its_fitted_vector(smoothing):
    """The identity behind fold-in: x̂ V Σ^(-1/2) = U √Σ for a row of the fitted matrix."""
    x = random_strengths(120, 80, 0.1)
    sums = smoothed(np.asarray(x.sum(axis=0)).ravel(), x.shape[0], smoothing)
    factors = factorize(normalize(x, *sums), k=6)
    np.testing.assert_allclose(
        SVDFoldIn(factors.fold_in, *sums).fold(x[:10]), factors.consumers[:10], atol=1e-6
    )


def test_svd_fold_in_against_a_slow_loop():
    x, rng = random_strengths(5, 7, 0.5), np.random.default_rng(1)
    sums, matrix = rng.uniform(1, 9, 7), rng.normal(size=(7, 3)).astype(np.float32)
    sums[2] = 0.0  # a producer that the fit saw nobody engage with
    slow = np.zeros((5, 3))
    for i, row in enumerate(x.toarray()):
        for j, strength in enumerate(row):
            if strength and sums[j]:
                slow[i] += strength / (np.sqrt(row.sum() + 2.5) * np.sqrt(sums[j])) * matrix[j]
    np.testing.assert_allclose(SVDFoldIn(matrix, sums, 2.5).fold(x), slow, atol=1e-6)


def test_parts_of_two_svd_versions_are_refused():
    with pytest.raises(ValueError, match="7 producers, column sums of 6, a fold-in matrix of 7"):
        SVDFoldIn(np.ones((7, 3), np.float32), np.ones(6)).fold(random_strengths(2, 7, 0.5))


def test_a_history_of_another_als_version_is_refused():
    folding = ALSFoldIn.of(als(random_strengths(20, 7, 0.5), CFG), CFG)
    with pytest.raises(ValueError, match="8 producers, a fold-in of 7"):
        folding.fold(random_strengths(2, 8, 0.5))


def test_als_refuses_a_strength_of_nothing():
    folding = ALSFoldIn.of(als(random_strengths(20, 7, 0.5), CFG), CFG)
    with pytest.raises(ValueError, match="not above 0"):
        folding.fold(sp.csr_matrix(([0.0], [2], [0, 1]), shape=(1, 7)))


def test_als_fold_in_is_one_more_half_step_of_the_fit():
    """The consumers of an iteration are what the fold-in makes of the producers of the iteration before."""
    x = random_strengths(90, 40, 0.2)
    before = als(x, CFG)
    after = als(x, ALSConfig(**{**vars(CFG), "iterations": CFG.iterations + 1}))
    np.testing.assert_allclose(ALSFoldIn.of(before, CFG).fold(x), after.consumers, atol=2e-6)


def test_als_fold_in_lands_where_the_loss_is_flat():
    """The gradient of the consumer's part of the loss, summed pair by pair, is zero there; n < k and n > k."""
    x = random_strengths(60, 40, 0.3)
    producers = als(x, CFG).producers.astype(np.float64)
    new = random_strengths(12, 40, 0.25, seed=5)
    assert np.diff(new.indptr).min() < CFG.dim < np.diff(new.indptr).max()
    for strengths, u in zip(
        new.toarray(), ALSFoldIn.of(als(x, CFG), CFG).fold(new).astype(np.float64), strict=True
    ):
        penalty = CFG.regularization * ((strengths > 0).sum() + CFG.unobserved_weight * 40)
        gradient = penalty * u
        for strength, v in zip(strengths, producers, strict=True):
            gradient += CFG.unobserved_weight * (u @ v) * v
            if strength:
                gradient += strength * (u @ v - 1) * v
        np.testing.assert_allclose(gradient, 0, atol=2e-6)


@pytest.mark.parametrize("kind", [0, 1], ids=["svd", "als"])
def test_a_batch_is_its_rows_one_by_one(kind):
    x = random_strengths(80, 50, 0.2)
    folding = both_kinds(x)[kind]
    one_by_one = np.concatenate([folding.fold(x[i]) for i in range(80)])
    np.testing.assert_allclose(folding.fold(x), one_by_one, atol=1e-6)


@pytest.mark.parametrize("kind", [0, 1], ids=["svd", "als"])
def test_a_rotated_fold_in_gives_rotated_vectors(kind):
    x, rotation = random_strengths(80, 50, 0.2), random_rotation(6) @ random_rotation(6, seed=1)
    folding = both_kinds(x)[kind]
    np.testing.assert_allclose(
        folding.rotated(rotation).fold(x), folding.fold(x) @ rotation, atol=1e-6
    )
    twice = folding.rotated(random_rotation(6)).rotated(random_rotation(6, seed=1))
    np.testing.assert_allclose(twice.fold(x), folding.rotated(rotation).fold(x), atol=1e-6)


@pytest.mark.parametrize("kind", [0, 1], ids=["svd", "als"])
def test_a_stored_fold_in_gives_the_same_bytes(kind, tmp_path):
    """Through .npy files that are mapped, and JSON."""
    x = random_strengths(80, 50, 0.2)
    folding = both_kinds(x)[kind]
    for name, array in folding.arrays().items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in folding.arrays()}
    again = restore(mapped, json.loads(json.dumps(folding.scalars())))
    assert again.fold(x).tobytes() == folding.fold(x).tobytes()


def test_a_kind_that_nobody_knows_is_named():
    with pytest.raises(ValueError, match=r"kind 'nmf'; there are \['als', 'svd'\]"):
        restore({}, {"kind": "nmf"})


@pytest.mark.parametrize("kind", [0, 1], ids=["svd", "als"])
def test_nobody_without_a_history_gets_a_direction(kind):
    x = random_strengths(80, 50, 0.2)
    new = sp.vstack([x[:1], sp.csr_matrix((1, 50)), x[1:2]], format="csr")
    vectors = both_kinds(x)[kind].fold(new)
    assert not vectors[1].any()
    assert vectors[0].any()
    assert vectors[2].any()
    assert both_kinds(x)[kind].fold(x[:0]).shape == (0, 6)


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
        (v @ axes).astype(np.float32),
        eigenvalues.clip(0),
        axes.astype(np.float32),
        0.3,
        0.1,
        exponent,
    )
    for strengths, u in zip(x.toarray(), folding.fold(x), strict=True):
        penalty = 0.1 * ((strengths > 0).sum() + 0.3 * m) ** exponent
        system = 0.3 * v.T @ v + (v.T * strengths) @ v + penalty * np.eye(k)
        expected = np.linalg.solve(system, v.T @ strengths)
        np.testing.assert_allclose(u, expected, atol=1e-5 * max(1.0, np.linalg.norm(expected)))
