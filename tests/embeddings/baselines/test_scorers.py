"""The baselines without vectors, against slow literal versions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from embeddings.baselines.ease import ease, ease_of_consumers, ease_of_producers, ease_of_top
from embeddings.baselines.item_item import item_item
from embeddings.baselines.popularity import popularity
from embeddings.baselines.sansa import inverse_factor, sansa

PENALTY = 3.0


def strengths(n: int, m: int, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return sp.csr_matrix(rng.integers(1, 4, (n, m)) * (rng.random((n, m)) < 0.3) * 1.0)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (15, 15)])
def test_ease_predicts_each_producer_from_the_others_by_ridge_regression(shape):
    """Column by column, by scikit-learn: a weight of a producer for itself does not exist."""
    x, history = strengths(*shape), strengths(5, shape[1], seed=1)
    expected = np.zeros((5, shape[1]))
    for column in range(shape[1]):
        others = np.delete(np.arange(shape[1]), column)
        model = Ridge(PENALTY, fit_intercept=False, solver="cholesky")
        model.fit(x[:, others].toarray(), x[:, [column]].toarray().ravel())
        expected[:, column] = model.predict(history[:, others].toarray())
    np.testing.assert_allclose(ease(x, PENALTY)(history), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(60, 25), (25, 60)])
def test_ease_by_consumers_and_by_producers_are_one_method(shape):
    """Woodbury's identity: the smaller of the two inverses gives the same scores."""
    x, history = strengths(*shape), strengths(7, shape[1], seed=2)
    by_producers = ease_of_producers(x, PENALTY)(history)
    np.testing.assert_allclose(ease_of_consumers(x, PENALTY)(history), by_producers, atol=1e-5)


@pytest.mark.parametrize("fit", [ease_of_consumers, ease_of_producers])
def test_ease_has_no_opinion_about_an_unknown_producer(fit):
    """A column without a single engagement is scored 0, and nothing is undefined."""
    x = strengths(20, 10).tolil()
    x[:, 3] = 0
    scores = fit(x.tocsr(), PENALTY)(strengths(4, 10, seed=3))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[:, 3], 0, atol=1e-6)


def test_ease_of_the_top_is_ease_without_the_others():
    """The others come last, by popularity; so they do for whoever knows only them."""
    x = strengths(30, 8).toarray()
    x[:, [2, 5]] = 0
    x[:3, 2] = x[:1, 5] = 1
    top = np.setdiff1d(np.arange(8), [2, 5])
    history = np.vstack([strengths(4, 8, seed=5).toarray(), np.eye(8)[[5]]])
    scores = ease_of_top(sp.csr_matrix(x), PENALTY, 6)(sp.csr_matrix(history))
    expected = ease(sp.csr_matrix(x[:, top]), PENALTY)(sp.csr_matrix(history[:4, top]))
    np.testing.assert_allclose(scores[:4, top], expected, atol=1e-5)
    assert (scores[:4, 2] > scores[:4, 5]).all()
    assert (scores[:4, 2] < scores[:4, top].min(axis=1)).all()
    np.testing.assert_array_equal(scores[4], (x > 0).sum(axis=0))


def test_item_item_sums_strengths_times_cosines():
    """By scikit-learn's cosines, without those of a producer with itself."""
    x, history = strengths(30, 9), strengths(4, 9, seed=4)
    near = cosine_similarity(x.T.toarray())
    np.fill_diagonal(near, 0)
    np.testing.assert_allclose(item_item(x)(history), history.toarray() @ near, atol=1e-5)


def test_item_item_ranks_what_is_near_nothing_by_popularity():
    x = sp.csr_matrix(np.array([[1, 0, 0, 0], [0, 1, 0, 1.0], [0, 0, 0, 2], [0, 0, 1, 0]]))
    scores = item_item(x)(sp.csr_matrix([[5.0, 0, 0, 0]]))[0]
    assert scores[3] > scores[1] == scores[2]


def test_popularity_counts_consumers_and_not_strengths():
    x = sp.csr_matrix(np.array([[9.0, 1, 0], [0, 1, 0]]))
    np.testing.assert_array_equal(popularity(x)(x), [[1, 2, 0], [1, 2, 0]])


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_sansa_with_all_producers_in_a_row_is_ease(shape):
    """Somebody has engaged with everything, so that all producers are near each other."""
    x = sp.vstack([strengths(*shape), np.ones((1, shape[1]))], format="csr")
    history = strengths(5, shape[1], seed=1)
    scores = sansa(x, PENALTY, nearest=shape[1])(history)
    np.testing.assert_allclose(scores, ease(x, PENALTY)(history), atol=1e-5)


def test_rows_of_a_sparse_factor_are_exact_among_their_producers():
    """Row by row, with the inverse of the small dense matrix; and no row is longer than asked."""
    x = strengths(40, 15)
    factor = inverse_factor(x, PENALTY, 4).toarray()
    gram = (x.T @ x).toarray() + PENALTY * np.eye(15)
    near = cosine_similarity(x.T.toarray())
    for row in range(15):
        chosen = np.sort(np.argsort(-near[row, :row], kind="stable")[:4])
        chosen = np.append(chosen[near[row, chosen] > 0], row)
        last = np.linalg.inv(gram[np.ix_(chosen, chosen)])[-1]
        expected = np.zeros(15)
        expected[chosen] = last / np.sqrt(last[-1])
        np.testing.assert_allclose(factor[row], expected, atol=1e-10)


def test_a_sparse_sansa_has_no_weight_of_a_producer_for_itself():
    """For a consumer of a single producer, the score of that producer is zero."""
    x = strengths(40, 15)
    scores = sansa(x, PENALTY, 4)(sp.identity(15, format="csr"))
    np.testing.assert_allclose(np.diag(scores), 0, atol=1e-6)
    assert np.count_nonzero(np.abs(scores) > 1e-6) > 15


def test_sansa_has_no_opinion_about_an_unknown_producer():
    x = strengths(20, 10).tolil()
    x[:, 3] = 0
    scores = sansa(x.tocsr(), PENALTY, 3)(strengths(4, 10, seed=3))
    np.testing.assert_allclose(scores[:, 3], 0, atol=1e-6)
