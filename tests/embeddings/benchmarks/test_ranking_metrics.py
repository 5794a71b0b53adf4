"""Ranking metrics against small examples and against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from embeddings.benchmarks.metrics import CHUNK, Ranking, rank

NOTHING = np.zeros(0)


def one_consumer(scores: list[float], seen: list[int], relevant: list[int]) -> Ranking:
    """The ranking of a consumer whose products with the producers are these scores."""

    def marked(columns: list[int]) -> sp.csr_matrix:
        rows = [0] * len(columns)
        return sp.csr_matrix((np.ones(len(columns)), (rows, columns)), shape=(1, len(scores)))

    producers = np.array(scores)[:, None]
    return rank(np.ones((1, 1)), producers, marked(seen), marked(relevant))


def test_ndcg_of_a_small_example():
    """Hits at ranks 1 and 3 of 3, a third one below: (1 + 1/2) / (1 + 1/log2 3 + 1/2)."""
    ranking = one_consumer([9, 8, 7, 6, 5], seen=[], relevant=[0, 2, 4])
    assert ranking.ndcg(3)[0] == pytest.approx(1.5 / (1.5 + 1 / np.log2(3)))


def test_recall_of_a_small_example():
    """Two of three are among the first three; at cut-off 1, one hit is the most possible."""
    ranking = one_consumer([9, 8, 7, 6, 5], seen=[], relevant=[0, 2, 4])
    assert ranking.recall(3)[0] == pytest.approx(2 / 3)
    assert ranking.recall(1)[0] == 1.0


def test_seen_producers_take_no_rank():
    ranking = one_consumer([9, 8, 7, 6, 5], seen=[0, 1], relevant=[2])
    assert ranking.ranks.tolist() == [0]
    assert ranking.ndcg(1)[0] == 1.0


def test_equal_scores_are_ranked_from_left_to_right():
    ranking = one_consumer([1, 2, 1, 2], seen=[], relevant=[0, 1, 2, 3])
    assert ranking.ranks.tolist() == [2, 0, 3, 1]


def test_a_consumer_without_a_vector_gets_the_most_popular():
    """The second producer is the most popular one; without popularity the first one leads."""
    wanted = sp.csr_matrix([[0, 1.0, 0]])
    arguments = (np.zeros((1, 2)), np.ones((3, 2)), sp.csr_matrix((1, 3)), wanted)
    assert rank(*arguments, popularity=np.array([3, 5, 1])).ranks.tolist() == [0]
    assert rank(*arguments).ranks.tolist() == [1]


def test_metrics_are_undefined_for_a_consumer_without_relevant_producers():
    wanted = sp.csr_matrix([[0, 0.0], [1, 0]])
    wanted.eliminate_zeros()
    ranking = rank(np.ones((2, 1)), np.array([[2.0], [1.0]]), sp.csr_matrix((2, 2)), wanted)
    np.testing.assert_array_equal(ranking.ndcg(1), [np.nan, 1])
    np.testing.assert_array_equal(ranking.recall(1), [np.nan, 1])


def test_no_consumers_have_no_metrics():
    empty = sp.csr_matrix((0, 3))
    ranking = rank(np.zeros((0, 2)), np.ones((3, 2)), empty, empty)
    np.testing.assert_array_equal(ranking.ndcg(5), NOTHING)
    np.testing.assert_array_equal(ranking.recall(5), NOTHING)


def slow_metrics(scores: np.ndarray, kinds: np.ndarray, top: int) -> tuple[float, float]:
    """NDCG and recall of one consumer. kinds: (m,), 1 seen, 2 relevant."""
    order = [j for j in np.argsort(-scores) if kinds[j] != 1][:top]
    n_relevant = int((kinds == 2).sum())
    best = sum(1 / np.log2(2 + place) for place in range(min(top, n_relevant)))
    gained = 0.0
    hits = 0
    for place, j in enumerate(order):
        if kinds[j] == 2:
            gained += 1 / np.log2(2 + place)
            hits += 1
    return gained / best, hits / min(top, n_relevant)


@given(st.integers(0, 10_000))
def test_metrics_equal_those_of_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    consumers = rng.normal(size=(6, 3)).astype(np.float32)
    producers = rng.normal(size=(30, 3)).astype(np.float32)
    kinds = rng.integers(0, 4, (6, 30))
    kinds[:, 0] = 2  # every consumer has a relevant producer
    seen = sp.csr_matrix((kinds == 1).astype(float))
    relevant = sp.csr_matrix((kinds == 2).astype(float))
    ranking = rank(consumers, producers, seen, relevant)
    scores = consumers @ producers.T
    expected = np.array([slow_metrics(scores[i], kinds[i], 5) for i in range(6)])
    np.testing.assert_allclose(ranking.ndcg(5), expected[:, 0], atol=1e-9)
    np.testing.assert_allclose(ranking.recall(5), expected[:, 1], atol=1e-9)


def test_chunks_do_not_change_the_ranking():
    """Consumers beyond the first chunk have the same ranks as when they are ranked alone."""
    rng = np.random.default_rng(0)
    n = CHUNK + 5
    consumers = rng.normal(size=(n, 3))
    producers = rng.normal(size=(20, 3))
    relevant = sp.random(n, 20, 0.3, "csr", random_state=rng)
    seen = sp.csr_matrix((n, 20))
    whole = rank(consumers, producers, seen, relevant)
    last = rank(consumers[-5:], producers, seen[-5:], relevant[-5:])
    np.testing.assert_array_equal(whole.ranks[-len(last.ranks) :], last.ranks)
    np.testing.assert_array_equal(whole.counts[-5:], last.counts)
