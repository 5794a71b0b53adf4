"""Bags of features: gradients against a slow loop, what newcomers get, and the fold-in's mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.cooccurrence.bags import Config, TrainedBags, fit, kept_features
from embeddings.cooccurrence.training import zeros
from embeddings.embedders.bag import fold_in_of
from embeddings.features import Vocabulary
from embeddings.kernels.communicator import Communicator, SingleWorker, run_threads
from embeddings.kernels.feature_bags import add_feature_bags
from embeddings.kernels.negative_sampling import alias_table
from embeddings.sampling import mixed

KEY = np.uint64(12345)
START = 7  # row number of the first entity in the whole matrix
GOLDEN = 0x9E3779B97F4A7C15
N, FEATURES, PRODUCERS, DIM, NEGATIVES = 12, 5, 9, 6, 4
CFG = Config(dim=DIM, seed=1, epochs=10, batches=10, negatives=5, learning_rate=0.3)


def random_counts(n: int, m: int, density: float, seed: int) -> sp.csr_matrix:
    x = sp.random(n, m, density, "csr", np.float32, random_state=np.random.default_rng(seed))
    x.data = np.random.default_rng(seed).integers(1, 5, len(x.data)).astype(np.float32)
    return x


BAGS = random_counts(N, FEATURES, 0.4, seed=0)
X = random_counts(N, PRODUCERS, 0.3, seed=1)
NOISE = alias_table(np.full(PRODUCERS, 1 / PRODUCERS))
VECTORS = np.random.default_rng(1).normal(size=(FEATURES + PRODUCERS, DIM))


def passed(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The gradients of one pass of the kernel, and the log-likelihood."""
    table = zeros(*vectors.shape)
    table[:, :DIM] = vectors
    gradients = zeros(*vectors.shape)
    bags = (BAGS.indptr.astype(np.int64), BAGS.indices, BAGS.data)
    pairs = (X.indptr.astype(np.int64), X.indices, X.data)
    drawn = (*NOISE, KEY, np.empty(1 + NEGATIVES, np.int64))
    rows = np.arange(N)
    features, outputs = slice(0, FEATURES), slice(FEATURES, None)
    learned = (table[outputs], gradients[outputs], table[features], gradients[features])
    found = add_feature_bags(rows, START, *bags, *pairs, *drawn, *learned)
    return gradients[:, :DIM], found[0]


def drawn_number(key: int, n: int) -> int:
    """The n-th number of a key."""
    return int(mixed(np.array([(key + GOLDEN * n) % 2**64], np.uint64))[0])


def slow(vectors: np.ndarray) -> np.ndarray:
    """The gradients, pair by pair, in float64. Every producer is drawn equally often."""
    gradients = np.zeros_like(vectors)
    for i in range(N):
        key, at = drawn_number(int(KEY), START + i), 1
        shares = BAGS[i].data / BAGS[i].data.sum() if BAGS[i].nnz else np.empty(0)
        h = shares @ vectors[BAGS[i].indices]
        for target, weight in zip(X[i].indices, X[i].data, strict=True):
            if not BAGS[i].nnz:
                continue
            numbers = [drawn_number(key, n) for n in range(at, at + NEGATIVES)]
            at += NEGATIVES
            labels = [(target, 1)] + [((n >> 32) * PRODUCERS >> 32, 0) for n in numbers]
            for j, label in labels:
                row = FEATURES + j
                slope = weight * (label - 1 / (1 + np.exp(-h @ vectors[row])))
                gradients[row] += slope * h
                for f, share in zip(BAGS[i].indices, shares, strict=True):
                    gradients[f] += share * slope * vectors[row]
    return gradients


def test_the_gradients_equal_those_of_a_slow_loop():
    assert 0 in np.diff(BAGS.indptr)  # one without features is among them
    np.testing.assert_allclose(passed(VECTORS)[0], slow(VECTORS), rtol=1e-4, atol=1e-4)


def test_the_gradients_are_the_differences_of_the_likelihood():
    """Along random directions; the draws of a key are the same at every point."""
    rng = np.random.default_rng(2)
    gradients = passed(VECTORS)[0]
    for _ in range(5):
        direction = rng.normal(size=VECTORS.shape)
        ahead, behind = (passed(VECTORS + step * direction)[1] for step in (1e-3, -1e-3))
        expected = np.sum(gradients * direction)
        assert (ahead - behind) / 2e-3 == pytest.approx(expected, rel=0.01, abs=0.1)


# The fit


def in_threads(bags: sp.csr_matrix, x: sp.csr_matrix, threads: int, **changes) -> TrainedBags:
    cfg = Config(**(vars(CFG) | changes))
    bounds = x.shape[0] * np.arange(threads + 1) // threads
    ids = [np.arange(count).astype(np.bytes_) for count in (bags.shape[1], x.shape[1])]

    def work(comm: Communicator) -> TrainedBags:
        own = slice(bounds[comm.rank], bounds[comm.rank + 1])
        return fit(bags[own], x[own], cfg, comm, *ids)

    return run_threads(threads, work)[0]


def test_the_number_of_threads_changes_only_the_rounding():
    bags, x = random_counts(150, 20, 0.2, seed=3), random_counts(150, 40, 0.15, seed=4)
    one, three, again = (in_threads(bags, x, threads) for threads in (1, 3, 3))
    for name in ("features", "inputs", "outputs"):
        assert getattr(three, name).tobytes() == getattr(again, name).tobytes()
        np.testing.assert_allclose(getattr(three, name), getattr(one, name), atol=1e-3)
    np.testing.assert_allclose(three.losses, one.losses, rtol=1e-5)


def tastes() -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Two tastes: which of 6 domains, of which all have the first, and which of 20 producers."""
    rng = np.random.default_rng(0)
    bags, x = np.zeros((200, 7)), np.zeros((200, 20))
    for consumer in range(200):
        taste = consumer % 2
        bags[consumer, [0, 1 + 3 * taste + rng.integers(3)]] = 1
        x[consumer, 10 * taste + rng.choice(10, 4, replace=False)] = 1
    return sp.csr_matrix(bags), sp.csr_matrix(x)


def test_a_newcomer_gets_what_those_with_its_domains_like():
    bags, x = tastes()
    trained = in_threads(bags, x, 2, epochs=20)
    assert trained.weights.tolist() == [0, 1, 1, 1, 1, 1, 1]  # that of all is dropped
    model = fold_in_of(trained, Vocabulary({"domain": tuple("abcdefg")}, {}))
    newcomers = sp.csr_matrix(np.eye(7, dtype=np.float32))
    vectors = model.fold(sp.csr_matrix((7, 20), dtype=np.float32), newcomers)
    assert not vectors[0].any()
    scores = vectors[1:] @ trained.outputs.T
    assert (scores[:3, :10].min(axis=1) > scores[:3, 10:].max(axis=1)).all()
    assert (scores[3:, 10:].min(axis=1) > scores[3:, :10].max(axis=1)).all()


ODD: dict[str, Callable[[], tuple]] = {
    "no features at all": lambda: (sp.csr_matrix((3, 0)), sp.csr_matrix(np.eye(3))),
    "bags of nothing": lambda: (sp.csr_matrix((3, 2)), sp.csr_matrix(np.eye(3))),
    "no engagement": lambda: (sp.csr_matrix(np.eye(3)), sp.csr_matrix((3, 2))),
    "weights of all sizes": lambda: (sp.csr_matrix([[1e30, 1e-30]]), sp.csr_matrix([[1.0, 0]])),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_bags_have_finite_vectors(case):
    trained = in_threads(*ODD[case](), threads=2)
    for name in ("features", "inputs", "outputs", "losses"):
        assert np.isfinite(getattr(trained, name)).all(), name


def test_a_feature_is_dropped_above_a_share_of_those_who_have_any():
    """Of four with features, the first is of three and the second of two."""
    bags = sp.csr_matrix(np.array([[1, 1, 0], [9, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]))
    assert kept_features(bags, 0.5, SingleWorker()).tolist() == [0, 1, 1]
    assert kept_features(bags, 1.0, SingleWorker()).tolist() == [1, 1, 1]


def test_the_fold_in_is_the_mean_of_all_that_is_known():
    """By hand: 2 p_1 + 1 p_0 + 3 e_1, and of a dropped feature nothing."""
    tables = [np.random.default_rng(n).normal(size=(3, 4)).astype(np.float32) for n in range(3)]
    features, inputs, outputs = tables
    weights = np.array([0, 1, 1], np.float32)
    trained = TrainedBags(features, weights, inputs, outputs, np.zeros(1))
    model = fold_in_of(trained, Vocabulary({"domain": ("a", "b", "c")}, {}))
    history = sp.csr_matrix(np.array([[1.0, 2.0, 0.0]]))
    bag = model.vocabulary.row({"domain": {"a": 5.0, "b": 3.0}})
    expected = (inputs[0] + 2 * inputs[1] + 3 * features[1]) / 6
    np.testing.assert_allclose(model.fold(history, bag)[0], expected, rtol=1e-5)
