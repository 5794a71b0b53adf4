"""DeepWalk in closed form, against the definition and against walks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.baselines.deepwalk import deepwalk, walk_matrix

WINDOW = 5


def graph(n: int, m: int, seed: int = 0) -> sp.csr_matrix:
    """Strengths such that everyone has an edge."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 4, (n, m)) * (rng.random((n, m)) < 0.3)
    x[np.arange(n), np.arange(n) % m] += 1
    x[np.arange(m) % n, np.arange(m)] += 1
    return sp.csr_matrix(x.astype(float))


@pytest.mark.parametrize("shape", [(14, 6), (6, 14)])
@pytest.mark.parametrize("negatives", [1.0, 2.0])
def test_a_walk_matrix_is_that_of_the_whole_graph(shape, negatives):
    """The definition: powers of the transition matrix of all n + m nodes, odd distances alone."""
    x = graph(*shape)
    n, m = shape
    adjacency = np.block([[np.zeros((n, n)), x.toarray()], [x.toarray().T, np.zeros((m, m))]])
    degrees = adjacency.sum(axis=1)
    step = adjacency / degrees[:, None]
    at = [np.linalg.matrix_power(step, r)[:n, n:] for r in (1, 3, 5)]
    ratios = x.sum() / negatives * np.mean(at, axis=0) / degrees[n:]
    expected = np.log(np.maximum(ratios, 1))
    found = walk_matrix(x, WINDOW, negatives).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_walks_that_are_walked_have_these_pairs():
    """The pointwise mutual information of the pairs in 30,000 walks of three steps."""
    x = graph(8, 5)
    rng = np.random.default_rng(0)
    to_producer = np.cumsum(x.toarray() / x.sum(axis=1).A, axis=1)
    to_consumer = np.cumsum(x.toarray().T / x.sum(axis=0).A.T, axis=1)

    def walk(cumulated: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        return (rng.random((len(nodes), 1)) > cumulated[nodes]).sum(axis=1)

    start = rng.choice(8, 30_000, p=x.sum(axis=1).A1 / x.sum())  # as often as a walk passes
    one = walk(to_producer, start)
    three = walk(to_producer, walk(to_consumer, one))
    pairs = np.zeros(x.shape)
    np.add.at(pairs, (np.r_[start, start], np.r_[one, three]), 1)
    ratios = pairs * pairs.sum() / np.outer(pairs.sum(axis=1), pairs.sum(axis=0))
    expected = np.log(np.maximum(ratios, 1))
    np.testing.assert_allclose(walk_matrix(x, 3).toarray(), expected, atol=0.06)


def test_products_of_vectors_are_the_best_approximation():
    """Of all matrices of that rank, by the SVD of NumPy."""
    x = graph(30, 20)
    found = deepwalk(x, dim=4, window=WINDOW)
    u, s, vt = np.linalg.svd(walk_matrix(x, WINDOW).toarray())
    expected = (u[:, :4] * s[:4]) @ vt[:4]
    np.testing.assert_allclose(found.consumers @ found.producers.T, expected, atol=2e-2)


def test_someone_without_edges_has_no_vector():
    x = graph(12, 8).tolil()
    x[3] = 0
    assert not deepwalk(x.tocsr(), dim=3, window=WINDOW).consumers[3].any()
