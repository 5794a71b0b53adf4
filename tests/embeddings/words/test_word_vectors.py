"""Skip-gram on counted pairs: what it is given, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.kernels.communicator import run_threads
from embeddings.words import judging
from embeddings.words.pairs import window_pairs
from embeddings.words.training import WordConfig, WordVectors, fit_words

TOPICS, PLACES = 4, 30
CFG = WordConfig(dim=8, epochs=10, batches=10, subsample=0.01)


def sentences(seed: int, n: int = 1500) -> np.ndarray:
    """(n, 8) words, each row of one topic, the frequent words of a topic more often."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, TOPICS, n)
    ranks = np.floor(PLACES * rng.random((n, 8)) ** 2).astype(np.int64)
    return topics[:, None] * PLACES + ranks


def pairs_of(rows: np.ndarray, window: int = 5) -> sp.csr_matrix:
    numbers = np.repeat(np.arange(len(rows)), rows.shape[1])
    return window_pairs(rows.ravel(), numbers, window, TOPICS * PLACES)


def fitted(rows: np.ndarray, threads: int = 1, cfg: WordConfig = CFG) -> WordVectors:
    ids = np.array([f"w{n:03d}" for n in range(TOPICS * PLACES)], np.bytes_)
    counts = np.bincount(rows.ravel(), minlength=len(ids))
    pairs = pairs_of(rows)
    return run_threads(threads, lambda comm: fit_words(pairs, ids, counts, cfg, comm))[0]


def test_pairs_are_those_that_windows_of_random_length_hold_on_average():
    """Word2vec's own way: a window of each length for every word, counted and averaged."""
    rng = np.random.default_rng(0)
    words, numbers = rng.integers(0, 6, 40), np.sort(rng.integers(0, 5, 40))
    expected = np.zeros((6, 6))
    for at in range(40):
        for length in (1, 2, 3):
            for other in range(max(0, at - length), min(40, at + length + 1)):
                if other != at and numbers[other] == numbers[at]:
                    expected[words[at], words[other]] += 1 / 3
    np.testing.assert_allclose(window_pairs(words, numbers, 3, 6).toarray(), expected)


def test_words_of_a_topic_are_near_each_other():
    vectors = fitted(sentences(0)).inputs
    purity = judging.topic_purity(vectors, np.arange(len(vectors)) // PLACES)
    assert purity.mean() > 0.95


def test_the_number_of_threads_changes_only_the_rounding():
    rows = sentences(0, 400)
    one, two, again = fitted(rows), fitted(rows, 2), fitted(rows, 2)
    assert two.inputs.tobytes() == again.inputs.tobytes()
    np.testing.assert_allclose(one.inputs, two.inputs, atol=1e-3)
    np.testing.assert_allclose(one.outputs, two.outputs, atol=1e-3)


def test_a_product_with_the_noise_says_which_words_come_together():
    """Other sentences of the same topics: far above the frequency alone."""
    learned = fitted(sentences(0))
    counts = np.bincount(sentences(0).ravel(), minlength=TOPICS * PLACES)
    later = pairs_of(sentences(1, 200))
    later.setdiag(0)
    later.eliminate_zeros()
    bias = judging.log_noise(counts, CFG.negative_exponent)
    found = judging.predicted(learned.inputs, learned.outputs, bias, later)
    frequency = judging.predicted(0 * learned.inputs, learned.outputs, np.log(counts), later)
    assert np.nanmean(found) > 2 * np.nanmean(frequency)


@pytest.mark.parametrize(("twin", "expected"), [(1, 1.0), (2, 0.5), (3, 0.0)])
def test_a_synonym_is_judged_by_the_words_that_are_less_near(twin, expected):
    """By hand: of the two others none, one or both are nearer."""
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.5], [0, 1]], np.float32)
    shares = judging.nearer_than_others(vectors, np.array([[0, twin]]))
    assert shares.tolist() == [expected]
