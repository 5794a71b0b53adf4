"""iALS against the loss summed pair by pair, dense solves, and the library `implicit`."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from embeddings.embedders.als import ALSConfig, als, fit, initial_rows, row_numbers
from embeddings.kernels.communicator import SingleWorker
from embeddings.kernels.exact_solve import CHUNK


def replace(cfg: ALSConfig, **changes) -> ALSConfig:
    """The configuration with these options changed, validated again."""
    return ALSConfig(**{**cfg.model_dump(), **changes})


CFG = ALSConfig(
    dim=8, iterations=6, unobserved_weight=0.2, regularization=0.01, frequency_exponent=0.7
)
EXACT = replace(CFG, solver="exact")


def tastes(n: int = 120, m: int = 60, seed: int = 0) -> sp.csr_matrix:
    """Consumers of four tastes, each for a quarter of the producers; strengths 0.5 to 3."""
    rng = np.random.default_rng(seed)
    same = rng.integers(0, 4, n)[:, None] == np.arange(m)[None, :] * 4 // m
    engaged = rng.random((n, m)) < np.where(same, 0.5, 0.03)
    return sp.csr_matrix(engaged * rng.uniform(0.5, 3.0, (n, m)))


def penalties(counts: np.ndarray, others: int, cfg: ALSConfig) -> np.ndarray:
    return cfg.regularization * (counts + cfg.unobserved_weight * others) ** cfg.frequency_exponent


def slow_loss(
    x: sp.csr_matrix, consumers: np.ndarray, producers: np.ndarray, cfg: ALSConfig
) -> float:
    """The loss as `embedders.als` defines it, pair by pair."""
    strengths = x.toarray()
    u = consumers.astype(np.float64)
    v = producers.astype(np.float64)
    total = 0.0
    for i in range(len(u)):
        for j in range(len(v)):
            product = u[i] @ v[j]
            total += strengths[i, j] * (product - 1) ** 2 + cfg.unobserved_weight * product**2
    consumer_penalties = penalties((strengths > 0).sum(axis=1), len(v), cfg)
    producer_penalties = penalties((strengths > 0).sum(axis=0), len(u), cfg)
    total += consumer_penalties @ (u**2).sum(axis=1)
    total += producer_penalties @ (v**2).sum(axis=1)
    return total


@pytest.mark.parametrize("cfg", [CFG, EXACT], ids=["cg", "exact"])
def test_the_reported_loss_is_the_loss(cfg):
    x = tastes()
    factors = als(x, cfg)
    expected = slow_loss(x, factors.consumers, factors.producers, cfg)
    assert factors.losses[-1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cfg", [CFG, EXACT], ids=["cg", "exact"])
def test_every_iteration_lowers_the_loss(cfg):
    losses = als(tastes(), replace(cfg, iterations=15)).losses
    assert (np.diff(losses) < 0).all()


def test_no_small_move_of_a_producer_lowers_the_loss():
    """The producers were solved last: the loss, summed by pairs, rises in any direction."""
    x = tastes(40, 20)
    rng = np.random.default_rng(0)
    factors = als(x, EXACT)
    least = slow_loss(x, factors.consumers, factors.producers, EXACT)
    for _ in range(5):
        move = rng.normal(size=factors.producers.shape) * 1e-2
        for sign in (1, -1):
            assert slow_loss(x, factors.consumers, factors.producers + sign * move, EXACT) > least


def dense_half_step(x: sp.csr_matrix, others: np.ndarray, cfg: ALSConfig) -> np.ndarray:
    """Every row by one dense solve. x: (n, m); others: (m, k)."""
    v = others.astype(np.float64)
    counts = np.diff(x.indptr)
    rows = []
    dense = cfg.unobserved_weight * v.T @ v
    for strengths, penalty in zip(x.toarray(), penalties(counts, x.shape[1], cfg), strict=True):
        system = dense + (v.T * strengths) @ v + penalty * np.eye(v.shape[1])
        rows.append(np.linalg.solve(system, v.T @ strengths))
    return np.array(rows)


@pytest.mark.parametrize("dim", [1, 8, 100], ids=["k = 1", "n on both sides of k", "n < k"])
def test_the_exact_solver_agrees_with_dense_solves(dim):
    x = tastes()
    factors = als(x, replace(EXACT, dim=dim, iterations=2))
    expected = dense_half_step(x.T.tocsr(), factors.consumers, EXACT)
    np.testing.assert_allclose(factors.producers, expected, atol=1e-5 * np.abs(expected).max())


def test_a_long_row_is_solved_exactly_too():
    """More interactions than fit into one chunk of the solver."""
    x = tastes(3000, 12)
    assert np.diff(x.tocsc().indptr).min() > CHUNK
    factors = als(x, replace(EXACT, dim=4, iterations=2))
    expected = dense_half_step(x.T.tocsr(), factors.consumers, EXACT)
    np.testing.assert_allclose(factors.producers, expected, atol=1e-5 * np.abs(expected).max())


def test_many_conjugate_gradient_steps_agree_with_the_exact_solver():
    x = tastes()
    many = als(x, replace(CFG, cg_steps=30))
    exact = als(x, EXACT)
    products = many.consumers @ many.producers.T
    np.testing.assert_allclose(products, exact.consumers @ exact.producers.T, atol=1e-4)
    np.testing.assert_allclose(many.losses, exact.losses, rtol=1e-5)


def test_three_steps_from_zero_are_close():
    """In the axes of the Gram matrix the first iteration's loss is the exact one's to 1 %."""
    three = als(tastes(), replace(CFG, iterations=1))
    exact = als(tastes(), replace(EXACT, iterations=1))
    assert three.losses[0] == pytest.approx(exact.losses[0], rel=0.01)


@pytest.mark.parametrize("cfg", [CFG, EXACT], ids=["cg", "exact"])
@pytest.mark.parametrize("threads", [2, 3])
def test_several_workers_find_what_one_finds(cfg, threads):
    x = tastes()
    one = als(x, cfg)
    several = als(x, cfg, threads=threads)
    np.testing.assert_allclose(several.consumers, one.consumers, atol=2e-5)
    np.testing.assert_allclose(several.producers, one.producers, atol=2e-5)
    np.testing.assert_allclose(several.gram, one.gram, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(several.losses, one.losses, rtol=1e-5)


def test_more_workers_than_rows():
    x = tastes(5, 3)
    np.testing.assert_allclose(als(x, EXACT, threads=7).losses, als(x, EXACT).losses, rtol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    x = tastes()
    assert als(x, CFG).consumers.tobytes() == als(x, CFG).consumers.tobytes()
    assert als(x, CFG).consumers.tobytes() != als(x, replace(CFG, seed=1)).consumers.tobytes()


def test_a_producer_starts_in_the_same_place_every_day_with_the_papers_variance():
    ids = row_numbers(10_000)
    whole = initial_rows(ids, CFG)
    assert whole.std() == pytest.approx(0.1 / np.sqrt(CFG.dim), rel=0.02)
    some = np.random.default_rng(0).permutation(10_000)[:700]
    np.testing.assert_array_equal(initial_rows(ids[some], CFG), whole[some])
    other = initial_rows(ids, replace(CFG, seed=1))
    assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.02


def test_two_days_with_the_same_engagements_end_up_in_the_same_place():
    """Whatever the order of the columns: without ids, another order is another start."""
    x = tastes()
    ids = np.array([b"p%d" % column for column in range(x.shape[1])])
    order = np.random.default_rng(0).permutation(x.shape[1])
    first = als(x, CFG, producer_ids=ids).producers
    again = als(x[:, order], CFG, producer_ids=ids[order]).producers
    np.testing.assert_allclose(again, first[order], atol=1e-4)
    unnamed = als(x[:, order], CFG).producers
    assert np.abs(unnamed - first[order]).max() > 0.05


def test_the_gram_matrix_belongs_to_the_producers():
    factors = als(tastes(), CFG)
    producers = factors.producers.astype(np.float64)
    np.testing.assert_allclose(
        factors.gram, producers.T @ producers, atol=1e-6 * np.trace(factors.gram)
    )


def test_implicit_finds_the_same_under_its_own_parameters():
    """All strengths are s, ν = 0, a = α0/s. With c = 1 + 1/a and λ' = (1 + a) λ/α0, implicit's
    factors are √(1 + a) times ours: its system is ours over α0 where V' = √(1 + a) V, and its
    right side is c V' where ours is V/a.
    """
    x = (tastes() > 0).astype(np.float64) * 1.5
    cfg = replace(EXACT, frequency_exponent=0.0, regularization=0.4, iterations=4)
    a = cfg.unobserved_weight / 1.5
    ours = als(x, cfg)
    peer = AlternatingLeastSquares(
        factors=cfg.dim, regularization=(1 + a) * cfg.regularization / cfg.unobserved_weight,
        iterations=cfg.iterations, use_cg=False, num_threads=1, dtype=np.float64,
    )  # fmt: skip
    peer.item_factors = np.sqrt(1 + a) * initial_rows(row_numbers(x.shape[1]), cfg).astype(
        np.float64
    )
    with threadpool_limits(1, "blas"):
        peer.fit((x > 0).astype(np.float64) * (1 + 1 / a), show_progress=False)
    np.testing.assert_allclose(peer.user_factors / np.sqrt(1 + a), ours.consumers, atol=1e-4)
    np.testing.assert_allclose(peer.item_factors / np.sqrt(1 + a), ours.producers, atol=1e-4)


@given(
    n=st.integers(1, 20),
    m=st.integers(1, 20),
    dim=st.integers(1, 20),
    density=st.floats(0, 1),
    solver=st.sampled_from(["cg", "exact"]),
)
def test_no_iteration_raises_the_loss_for_any_shape(n, m, dim, density, solver):
    """Rows without engagements are zero, and every value is finite."""
    x = sp.random(n, m, density, "csr", random_state=np.random.default_rng(n * m))
    factors = als(x, replace(CFG, dim=dim, iterations=5, solver=solver))
    assert (np.diff(factors.losses) <= 1e-5 * x.data.sum()).all()
    assert np.isfinite(factors.consumers).all()
    assert not factors.consumers[np.diff(x.indptr) == 0].any()
    assert not factors.producers[np.diff(x.tocsc().indptr) == 0].any()


def test_progress_reports_each_iteration():
    x = tastes()
    reports = []

    def progress(iteration: int, loss: float) -> None:
        reports.append((iteration, loss))

    factors = fit(x, x.T.tocsr(), CFG, SingleWorker(), progress)
    assert reports == list(zip(range(1, 7), factors.losses, strict=True))


def test_rows_that_do_not_make_up_the_matrix_are_refused():
    x = tastes()
    with pytest.raises(
        ValueError, match="hold 119 rows; the other side of the matrix has 120 columns"
    ):
        fit(x[:119], x.T.tocsr(), CFG, SingleWorker())


@pytest.mark.parametrize("factor", [-1, np.nan], ids=["negative", "nan"])
def test_a_strength_that_is_not_above_zero_is_refused(factor):
    with pytest.raises(ValueError, match="not above 0"):
        als(tastes() * factor, CFG)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "greater than or equal to 1"),
        ({"regularization": 0.0}, "greater than 0"),
        ({"unobserved_weight": -1.0}, "greater than or equal to 0"),
        ({"solver": "lu"}, "'cg' or 'exact'"),
    ],
)
def test_a_wrong_setting_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(CFG, **wrong)
