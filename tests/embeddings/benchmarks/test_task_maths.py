"""The maths of the standard tasks, each against a slow loop or another library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from planted_case import planted_case
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import ndcg_score, roc_auc_score

from embeddings.baselines.item_item import cosines_of_columns
from embeddings.benchmarks.degrees import degrees, ndcg
from embeddings.benchmarks.judging import activity_vectors, random_vectors
from embeddings.benchmarks.labels import FEWEST_TO_FIT, Labels, common_labels, logistic_aucs
from embeddings.benchmarks.learning import Halves, linear_scores, logistic_scores, standardised
from embeddings.benchmarks.metrics import Ranking
from embeddings.benchmarks.tasks.base import NotJudged
from embeddings.benchmarks.tasks.categories import labelled
from embeddings.benchmarks.tasks.jaccard import jaccard, similarities, spearman_of_pairs
from embeddings.benchmarks.tasks.profile import BENCHMARK as PROFILE
from embeddings.benchmarks.tasks.profile import profile_labels
from embeddings.benchmarks.tasks.retrieval import BENCHMARK as RETRIEVAL
from embeddings.sampling import noise

seeds = st.integers(0, 2**32 - 1)


def sets_of(rng: np.random.Generator, n: int, m: int) -> np.ndarray:
    """Random sets as rows of zeros and ones, none empty."""
    rows = (rng.random((n, m)) < 0.3).astype(float)
    rows[np.arange(n), rng.integers(m, size=n)] = 1
    return rows


@given(seeds)
def test_jaccard_is_that_of_the_sets(seed):
    rows = sets_of(np.random.default_rng(seed), 6, 9)
    found = jaccard(sp.csr_matrix(rows))
    sets = [set(np.flatnonzero(row)) for row in rows]
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            assert found[i, j] == pytest.approx(len(a & b) / len(a | b))


@given(seeds)
def test_spearman_of_pairs_is_scipys_over_the_pairs(seed):
    rng = np.random.default_rng(seed)
    index = jaccard(sp.csr_matrix(sets_of(rng, 9, 6)))
    cosine = similarities(rng.normal(size=(9, 3)))["cosine"]
    pairs = np.triu_indices(9, 1)
    if len(set(index[pairs])) > 1:
        expected = spearmanr(index[pairs], cosine[pairs]).statistic
        assert spearman_of_pairs(index, cosine)() == pytest.approx(expected)


def test_a_resample_of_pairs_counts_the_pairs_of_the_drawn_users():
    """Users drawn 2, 1, 0, … times, against a loop over all pairs."""
    rng = np.random.default_rng(5)
    index = jaccard(sp.csr_matrix(sets_of(rng, 7, 6)))
    dot = similarities(rng.normal(size=(7, 3)))["dot"]
    weights = np.array([2, 1, 0, 1, 3, 0, 1])
    pairs = np.triu_indices(7, 1)
    x, y = (ranks_of(values[pairs]) for values in (index, dot))
    repeats = (weights[:, None] * weights)[pairs]
    expected = np.corrcoef(np.repeat(x, repeats), np.repeat(y, repeats))[0, 1]
    assert spearman_of_pairs(index, dot)(weights[None])[0] == pytest.approx(expected)


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Average ranks, by comparing every two."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    return below + (equal + 1) / 2


def test_similarities_of_two_vectors():
    found = similarities(np.array([[3.0, 4.0], [0.0, 5.0], [0.0, 0.0]]))
    assert found["dot"][0, 1] == 20
    assert found["cosine"][0, 1] == pytest.approx(0.8)
    assert found["euclidean"][0, 1] == pytest.approx(-10)  # minus the squared distance
    assert found["cosine"][0, 2] == 0  # a vector of zeros has no direction


@given(seeds)
def test_ndcg_of_graded_gains_is_sklearns(seed):
    rng = np.random.default_rng(seed)
    gains = rng.random((5, 6)) * (rng.random((5, 6)) < 0.6)
    gains[:, 0] += 0.1
    scores = rng.normal(size=(5, 6))
    expected = [ndcg_score([g], [s]) for g, s in zip(gains, scores, strict=True)]
    np.testing.assert_allclose(ndcg(gains, scores), expected)


def test_degrees_are_shares_and_nobody_without_a_topic_has_any():
    found = degrees(sp.csr_matrix([[2.0, 6.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0, 0]])


def ids_of(n: int) -> np.ndarray:
    return np.array([f"{i}".encode() for i in range(n)])


def test_logistic_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(300, 4)) * [1, 10, 0.1, 0]  # a column of zeros, too
    labels = vectors[:, 0] + rng.normal(size=300) > 0
    halves = Halves.of(ids_of(300), np.arange(300))
    x = standardised(vectors, halves.fit)
    model = LogisticRegression(tol=1e-10, max_iter=1000).fit(x[halves.fit], labels[halves.fit])
    expected = model.decision_function(x[halves.judged])
    scores = logistic_scores(vectors, labels, halves)
    np.testing.assert_allclose(scores, expected, rtol=0.05, atol=0.05)


def test_the_mean_auc_is_that_of_each_question_among_those_who_answered():
    """Against scikit-learn, question by question; a user drawn three times counts three times."""
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(400, 3))
    values = vectors[:, :2] + rng.normal(size=(400, 2)) > 0
    known = np.column_stack([np.ones(400, bool), rng.random(400) < 0.5])
    halves = Halves.of(ids_of(400), np.arange(400))
    statistic = logistic_aucs(vectors, Labels(values, known), halves)
    weights = rng.integers(0, 4, len(halves.judged))
    plain, drawn = [], []
    for question in range(2):
        asked = known[:, question]
        own = Halves.of(ids_of(400), np.flatnonzero(asked))
        scores = logistic_scores(vectors, values[:, question], own)
        answers = values[own.judged, question]
        plain.append(roc_auc_score(answers, scores))
        of_asked = weights[asked[halves.judged]]
        drawn.append(roc_auc_score(answers, scores, sample_weight=of_asked))
    assert statistic() == pytest.approx(np.mean(plain))
    assert statistic(weights[None])[0] == pytest.approx(np.mean(drawn))


def test_linear_scores_are_those_of_a_ridge_regression():
    rng = np.random.default_rng(4)
    vectors, targets = rng.normal(size=(200, 5)), rng.normal(size=(200, 3))
    halves = Halves.of(np.array([f"{i}".encode() for i in range(200)]), np.arange(200))
    x = standardised(vectors, halves.fit)
    peer = Ridge(alpha=1.0).fit(x[halves.fit], targets[halves.fit])
    np.testing.assert_allclose(
        linear_scores(vectors, targets, halves), peer.predict(x[halves.judged])
    )


def test_the_same_ids_are_held_out_whoever_else_is_there():
    ids = np.array([f"id {i}".encode() for i in range(1000)])
    everybody = Halves.of(ids, np.arange(1000))
    half = Halves.of(ids, np.arange(0, 1000, 2))
    assert set(half.judged) == set(everybody.judged) & set(range(0, 1000, 2))
    assert 150 < len(everybody.judged) < 250
    assert len(everybody.fit) + len(everybody.judged) == 1000


def test_common_labels_are_the_most_balanced_ones():
    halves = Halves.of(ids_of(1000), np.arange(1000))
    numbers = np.arange(1000)
    rare, third, half, nearly_all = numbers < 20, numbers % 3 == 0, numbers % 2 == 0, numbers > 5
    labels = Labels.all_known(np.column_stack([rare, third, half, nearly_all]))

    def chosen(most: int) -> np.ndarray:
        return common_labels(labels, halves, most).values

    np.testing.assert_array_equal(chosen(5), labels.values[:, [2, 1]])
    np.testing.assert_array_equal(chosen(1), labels.values[:, [2]])
    with pytest.raises(NotJudged, match=f"{FEWEST_TO_FIT} with and {FEWEST_TO_FIT} without"):
        common_labels(labels.columns(np.array([0, 3])), halves, 5)
    # Most of them did not answer: what is left of the third is too rare.
    answered = np.broadcast_to(numbers[:, None] < 60, (1000, 4))
    with pytest.raises(NotJudged):
        common_labels(Labels(labels.values, answered), halves, 5)


def test_cosines_of_columns_against_a_loop():
    window = np.array([[1.0, 2, 0], [0, 1, 0], [3, 0, 0]])
    found = cosines_of_columns(sp.csr_matrix(window)).toarray()
    expected = np.zeros((3, 3))
    expected[0, 1] = expected[1, 0] = 2 / (np.sqrt(10) * np.sqrt(5))
    np.testing.assert_allclose(found, expected)


def test_producers_that_a_version_lacks_count_as_not_found():
    """One of two found at rank 0; the other is not in the version."""
    ranking = Ranking(ranks=np.array([0]), counts=np.array([1])).with_missing(np.array([1]))
    assert ranking.recall(100)[0] == 0.5
    assert ranking.ndcg(20)[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_a_consumer_with_only_unknown_producers_scores_zero():
    case = planted_case()
    unknown = case.engaged.copy()
    unknown.data[:] = 0
    unknown.eliminate_zeros()
    alone = replace(case, engaged=unknown, elsewhere=np.ones(len(case.consumer_ids), np.int64))
    judged = RETRIEVAL.judge(alone)
    assert judged.n == len(case.consumer_ids)
    assert judged.statistics["ndcg20"]() == 0


def test_a_profile_becomes_questions_that_not_everybody_answers():
    case = replace(
        planted_case(consumers=4, producers=3),
        profiles={
            "cat_two": np.array(["a", "b", "a", ""]),
            "cat_three": np.array(["x", "y", "z", "x"]),
            "cat_same": np.array(["s", "s", "s", ""]),
            "num_age": np.array([1.0, 5.0, 3.0, np.nan]),
            "num_none": np.full(4, np.nan),
        },
    )
    found = profile_labels(case)
    expected = [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    np.testing.assert_array_equal(found.values.T, expected)
    answered = [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    np.testing.assert_array_equal(found.known.T, answered)


def test_a_consumer_without_a_profile_is_not_judged():
    """Their vectors differ from the others', which must not tell anything."""
    case = planted_case()
    without = np.arange(len(case.consumer_ids)) % 2 == 0
    club = np.where(without, "", case.profiles["cat_club"])
    vectors = np.where(without[:, None], case.consumers + 5, case.consumers)
    mixed = replace(case, profiles={"cat_club": club}, consumers=vectors)
    alone = replace(mixed, consumer_counts=np.where(without, 0, case.consumer_counts))
    judged, expected = PROFILE.judge(mixed), PROFILE.judge(alone)
    assert judged.n == expected.n < len(case.consumer_ids) / 8
    assert judged.statistics["auc"]() == expected.statistics["auc"]()


def test_the_category_is_the_most_frequent_topic_of_large_enough_categories():
    case = planted_case()
    rows, category = labelled(case)
    topics = case.producer_topics.toarray()
    np.testing.assert_array_equal(category[rows], topics[rows].argmax(axis=1))
    assert len(rows) == len(case.producer_ids)


def test_the_popularity_baseline_ranks_by_popularity():
    case = activity_vectors(planted_case())
    scores = case.consumers @ case.producers.T
    order = np.argsort(-case.producer_counts, kind="stable")
    for row in scores[:5]:
        np.testing.assert_array_equal(np.argsort(-row, kind="stable"), order)


def test_random_vectors_belong_to_ids_and_look_like_noise():
    ids = np.array([f"{i}".encode() for i in range(4000)])
    drawn = noise(ids, 16)
    np.testing.assert_array_equal(noise(ids[::7], 16), drawn[::7])
    assert drawn.min() > -1
    assert drawn.max() < 1
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(16), atol=0.06)
    assert random_vectors(planted_case()).consumers.shape == planted_case().consumers.shape
