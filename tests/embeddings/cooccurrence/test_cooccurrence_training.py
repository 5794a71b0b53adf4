"""Skip-gram with negative sampling: gradients against a slow loop, draws, and its purpose."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.cooccurrence.training import (
    Config,
    Pairs,
    Tables,
    batches_of,
    column_sums,
    kept_shares,
    keys_of,
    noise_shares,
    zeros,
)
from embeddings.embedders.cooccurrence import Factors, Options, cooccurrence
from embeddings.kernels.communicator import Communicator, SingleWorker, run_threads
from embeddings.kernels.negative_sampling import alias_table
from embeddings.kernels.random_numbers import number
from embeddings.sampling import mixed

WAYS = ("baskets", "direct")
KEY = np.uint64(12345)
START = 7  # row number of the first consumer in the whole matrix
GOLDEN = 0x9E3779B97F4A7C15


OPTIONS = Options(epochs=10, batches=10, negatives=5, learning_rate=0.3, regularization=0.1)


def config(**changes) -> Config:
    return Config(dim=6, seed=1, **(OPTIONS.model_dump() | changes))


def fitted(x: sp.csr_matrix, dim: int = 6, threads: int = 1, **changes) -> Factors:
    return cooccurrence(x, OPTIONS.model_copy(update=changes), dim, 1, threads)


def random_strengths(n: int, m: int, density: float, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", np.float32, random_state=rng)
    x.data = rng.integers(1, 5, len(x.data)).astype(np.float32)
    return x


def two_clusters(n: int = 120, m: int = 30) -> sp.csr_matrix:
    """Even consumers engage with the first half of the producers, odd ones with the second."""
    rng = np.random.default_rng(0)
    x = np.zeros((n, m))
    for consumer in range(n):
        own = rng.choice(m // 2, 5, replace=False) + consumer % 2 * (m // 2)
        x[consumer, own] = 1
    return sp.csr_matrix(x)


# The gradients


def passed(cfg: Config, x: sp.csr_matrix, vectors: np.ndarray) -> tuple[np.ndarray, float, Pairs]:
    """The gradients of one pass, the log-likelihood, and the pairs with what they learned.

    vectors: (m or 2m, 6), outputs and then inputs, as the gradients.
    """
    sums = np.asarray(x.sum(axis=0), np.float64).ravel()
    pairs = Pairs(x, START, sums, cfg)
    table = zeros(*vectors.shape)
    table[:, : cfg.dim] = vectors
    tables = Tables(table, x.shape[1], cfg.dim, SingleWorker())
    rows = np.arange(x.shape[0])
    tables.start_batch(pairs.inputs_of(rows))
    likelihood, _ = pairs.add_gradients(rows, KEY, cfg.learning_rate, tables)
    gradients = np.zeros(vectors.shape)
    gradients[tables.rows] = tables.gradients[:, : cfg.dim]
    return gradients, likelihood, pairs


def drawn_number(key: int, n: int) -> int:
    """The n-th number of a key, by the finaliser for arrays."""
    return int(mixed(np.array([(key + GOLDEN * n) % 2**64], np.uint64))[0])


def drawn_producers(key: int, first: int, count: int, pairs: Pairs) -> list[int]:
    """The negatives that the numbers first, first + 1, … of a key choose."""
    shares, aliases = pairs.noise
    chosen = []
    for n in range(first, first + count):
        value = drawn_number(key, n)
        column = (value >> 32) * len(shares) >> 32
        kept = (value & 0xFFFFFFFF) / 2**32 < shares[column]
        chosen.append(column if kept else int(aliases[column]))
    return chosen


def slope(score: float, label: int) -> float:
    """The derivative of log σ(score), or of log σ(−score) for label 0."""
    return label - 1 / (1 + np.exp(-score))


def slow_baskets(x, vectors, pairs: Pairs, negatives: int) -> np.ndarray:
    """The gradients, pair by pair, in float64."""
    m = x.shape[1]
    outputs, inputs = vectors[:m].astype(float), vectors[m:].astype(float)
    gradients = np.zeros((2 * m, vectors.shape[1]))
    for i in range(x.shape[0]):
        key, at = drawn_number(int(KEY), START + i), 1
        basket, weights = x[i].indices, x[i].data
        if len(basket) < 2:
            continue
        for target, weight in zip(basket, weights, strict=True):
            others, shares = basket[basket != target], weights[basket != target]
            shares = shares / shares.sum()
            h = shares @ inputs[others]
            labels = [(target, 1)]
            labels += [(j, 0) for j in drawn_producers(key, at, negatives, pairs)]
            at += negatives
            for j, label in labels:
                g = weight * slope(h @ outputs[j], label)
                gradients[j] += g * h
                for other, share in zip(others, shares, strict=True):
                    gradients[m + other] += share * g * outputs[j]
    return gradients


def slow_direct(x, vectors, pairs: Pairs, cfg: Config) -> tuple[np.ndarray, np.ndarray]:
    """The gradients, and the consumers after a step of Adagrad per pair, in float64."""
    outputs = vectors.astype(float)
    gradients = np.zeros_like(outputs)
    consumers = np.zeros((x.shape[0], cfg.dim))
    for i in range(x.shape[0]):
        key, at, squares = drawn_number(int(KEY), START + i), 1, 0.0
        u = consumers[i]
        for target, weight in zip(x[i].indices, x[i].data, strict=True):
            labels = [(target, 1)]
            labels += [(j, 0) for j in drawn_producers(key, at, cfg.negatives, pairs)]
            at += cfg.negatives
            uphill = -cfg.regularization / x[i].nnz * u
            for j, label in labels:
                g = weight * slope(u @ outputs[j], label)
                gradients[j] += g * u
                uphill = uphill + g * outputs[j]
            squares += np.mean(uphill**2)
            u += cfg.learning_rate / np.sqrt(squares) * uphill
    return gradients, consumers


def test_the_gradients_of_baskets_equal_those_of_a_slow_loop():
    cfg = config()
    x = random_strengths(12, 9, 0.4)
    vectors = np.random.default_rng(1).normal(size=(18, 6)).astype(np.float32)
    gradients, _, pairs = passed(cfg, x, vectors)
    expected = slow_baskets(x, vectors, pairs, cfg.negatives)
    np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-4)


def test_the_gradients_and_steps_of_direct_pairs_equal_those_of_a_slow_loop():
    cfg = config(pairs="direct")
    x = random_strengths(12, 9, 0.4)
    vectors = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    gradients, _, pairs = passed(cfg, x, vectors)
    expected, consumers = slow_direct(x, vectors, pairs, cfg)
    np.testing.assert_allclose(gradients, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(pairs.consumers[:, :6], consumers, rtol=1e-3, atol=1e-3)


def test_the_gradients_of_baskets_are_the_differences_of_the_likelihood():
    """Along random directions; the draws of a key are the same at every point."""
    cfg = config(subsample=0.05)
    x = random_strengths(12, 9, 0.4)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(18, 6)).astype(np.float32)
    gradients, _, _ = passed(cfg, x, vectors)
    for _ in range(5):
        direction = rng.normal(size=(18, 6))
        ahead = passed(cfg, x, (vectors + 1e-3 * direction).astype(np.float32))[1]
        behind = passed(cfg, x, (vectors - 1e-3 * direction).astype(np.float32))[1]
        expected = np.sum(gradients * direction)
        assert (ahead - behind) / 2e-3 == pytest.approx(expected, rel=0.01, abs=0.1)


def test_a_producer_that_outweighs_its_basket_is_no_target():
    """Without it nothing would be left of the mean but rounding."""
    x = sp.csr_matrix(np.array([[1e9, 1.0, 2.0]], np.float32))
    vectors = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32)
    gradients, _, _ = passed(config(), x, vectors)
    assert np.isfinite(gradients).all()


def test_inputs_have_gradients_only_in_the_batches_of_any_worker_that_they_are_in():
    """Of 2 outputs and 4 inputs, one worker's batch has input 1, the other's 1 and 3."""
    own_inputs = ([0, 1, 0, 0], [0, 1, 0, 1])

    def work(comm: Communicator) -> tuple[list[int], np.ndarray]:
        tables = Tables(zeros(6, 3), 2, 3, comm)
        tables.start_batch(np.ones(4, np.int32))
        tables.gradients[:] = 1.0
        tables.start_batch(np.array(own_inputs[comm.rank], np.int32))
        assert not tables.gradients.any()
        _, gradients, places = tables.inputs
        for j in np.flatnonzero(own_inputs[comm.rank]):
            gradients[places[j], :3] += 10.0 * (comm.rank + 1)
        tables.step(rate=0.5)
        return tables.rows.tolist(), tables.vectors[:, 0].copy()

    for rows, vectors in run_threads(2, work):
        assert rows == [0, 1, 3, 5]
        # Adagrad's first step is the rate times the sign, whatever the sum of the gradients is.
        np.testing.assert_allclose(vectors, [0, 0, 0, 0.5, 0, 0.5])


def test_the_sums_of_columns_equal_those_of_bincount_without_copies_of_the_entries():
    x = random_strengths(1000, 300, 0.5)
    x.data /= 3  # a sum depends on its order
    expected = np.bincount(x.indices, x.data, 300)
    column_sums(x, SingleWorker())  # compiles
    tracemalloc.start()
    found = column_sums(x, SingleWorker())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tobytes() == expected.tobytes()
    assert peak < x.data.nbytes / 10


# The draws


def test_numbers_in_kernels_are_those_for_arrays():
    assert [number(KEY, np.uint64(n)) for n in (1, 2, 99)] == [
        drawn_number(int(KEY), n) for n in (1, 2, 99)
    ]


@pytest.mark.parametrize("exponent", [0.0, 0.75, -1.0])
def test_an_alias_table_draws_with_the_given_probabilities(exponent):
    """Exactly: what a column keeps, and what others leave to it."""
    probabilities = noise_shares(np.random.default_rng(0).pareto(1.0, 200), exponent)
    shares, aliases = alias_table(probabilities)
    reached = shares.astype(float)
    np.add.at(reached, aliases, 1 - shares.astype(float))
    np.testing.assert_allclose(reached / 200, probabilities, rtol=1e-4, atol=1e-8)


def test_a_producer_without_engagements_is_drawn_like_the_least_engaged_one():
    np.testing.assert_allclose(noise_shares(np.array([0.0, 4.0, 1.0]), 0.5), [0.25, 0.5, 0.25])


def test_frequent_producers_are_passed_less_often():
    """By hand, as in word2vec: √(t/f) + t/f for f = 0.9 and t = 0.1."""
    kept = kept_shares(np.array([9.0, 1.0]), 0.1)
    np.testing.assert_allclose(kept, [np.sqrt(1 / 9) + 1 / 9, 1.0], rtol=1e-6)
    assert kept_shares(np.array([9.0, 1.0]), 0.0).tolist() == [1.0, 1.0]


def test_every_consumer_is_in_one_batch_whoever_holds_it():
    key = keys_of(3, 1)[0]
    whole = list(batches_of(100, 0, key, 7))
    assert sorted(np.concatenate(whole)) == list(range(100))
    for all_rows, rows in zip(whole, batches_of(40, 60, key, 7), strict=True):
        np.testing.assert_array_equal(all_rows[all_rows >= 60] - 60, rows)


# The fit


@pytest.mark.parametrize("pairs", WAYS)
def test_the_number_of_threads_changes_only_the_rounding(pairs):
    x = random_strengths(150, 40, 0.15)
    one = fitted(x, pairs=pairs)
    three, again = fitted(x, threads=3, pairs=pairs), fitted(x, threads=3, pairs=pairs)
    assert three.producers.tobytes() == again.producers.tobytes()
    assert three.consumers.tobytes() == again.consumers.tobytes()
    np.testing.assert_allclose(three.producers, one.producers, atol=1e-3)
    np.testing.assert_allclose(three.losses, one.losses, rtol=1e-5)


@pytest.mark.parametrize("pairs", WAYS)
def test_planted_clusters_are_found(pairs):
    x = two_clusters()
    factors = fitted(x, dim=3, pairs=pairs, epochs=20, regularization=5.0)
    scores = factors.consumers @ factors.producers.T
    own = np.arange(120)[:, None] % 2 == np.arange(30) // 15
    means = scores[own].reshape(120, 15).mean(axis=1)
    assert (means > scores[~own].reshape(120, 15).mean(axis=1)).all()
    assert factors.losses[-1] < factors.losses[0]


@pytest.mark.parametrize("pairs", WAYS)
def test_a_producer_that_nobody_has_scores_below_all_others(pairs):
    x = sp.csr_matrix(np.hstack([two_clusters().toarray(), np.zeros((120, 1))]))
    factors = fitted(x, pairs=pairs, epochs=20)
    scores = factors.consumers @ factors.producers.T
    engaged = x.toarray() > 0
    assert (scores[:, -1] < np.where(engaged, scores, np.inf).min(axis=1)).all()


@pytest.mark.parametrize("pairs", WAYS)
@pytest.mark.parametrize(
    "rows",
    [
        [[1.0], [2.0]],  # one producer
        [[0.0, 0.0], [0.0, 0.0]],  # no engagement
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],  # baskets of one
        [[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]],  # an empty row, and more dimensions than producers
        [[1e30, 1e-30], [1e-30, 1e30]],  # strengths of all sizes
    ],
    ids=["one producer", "empty", "single", "an empty row", "all sizes"],
)
def test_odd_matrices_have_finite_vectors(pairs, rows):
    x = sp.csr_matrix(np.array(rows))
    factors = fitted(x, threads=2, pairs=pairs)
    for vectors in (factors.consumers, factors.producers):
        assert np.isfinite(vectors).all()
    empty = np.diff(x.indptr) == 0
    assert not factors.consumers[empty].any()


@pytest.mark.parametrize("strength", [-1.0, np.nan])
def test_a_strength_that_is_not_above_zero_is_refused(strength):
    x = sp.csr_matrix(np.array([[1.0, strength]]))
    with pytest.raises(ValueError, match="A strength is not above 0"):
        fitted(x)
