"""Pairs and phrases in Spark, against slow loops in Python and against gensim."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from gensim.models.phrases import Phrases

from embeddings.words.phrases import merged
from jobs.words.pairs import pairs_in_groups, pairs_in_windows, pairs_of_columns
from jobs.words.phrases import common_phrases, scored_neighbours, with_phrases

Pairs = dict[tuple, float]


def random_rows(seed: int, n: int = 120) -> list[tuple]:
    """half, group, place, word, weight; some words are null, and places have gaps."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in rng.permutation(n).tolist():
        word = None if rng.random() < 0.05 else f"w{rng.integers(6)}"
        group, weight = int(rng.integers(8)), float(rng.integers(1, 5)) / 4
        rows.append((group % 2, f"g{group}", place, word, weight))
    return rows


@pytest.fixture(scope="module")
def rows() -> list[tuple]:
    return random_rows(0)


@pytest.fixture(scope="module")
def table(spark, rows):
    return spark.createDataFrame(rows, "half int, `group` string, place int, word string, w double")


def collected(pairs, by: bool = False) -> Pairs:
    found = {}
    for row in pairs.collect():
        key = (row["first"], row["second"])
        found[(row["half"], *key) if by else key] = row["weight"]
    return found


def test_pairs_of_columns_are_summed(table, rows):
    expected: Pairs = defaultdict(float)
    for _, group, _, word, weight in rows:
        if word is not None:
            expected[group, word] += weight
    assert collected(pairs_of_columns(table, "group", "word", "w")) == pytest.approx(expected)


def test_pairs_in_groups_are_all_products_of_weights(table, rows):
    expected: Pairs = defaultdict(float)
    for half, group, _, word, weight in rows:
        for other_half, other_group, _, other, other_weight in rows:
            together = (half, group) == (other_half, other_group) and word != other
            if together and None not in (word, other):
                expected[half, word, other] += weight * other_weight
    found = collected(pairs_in_groups(table, "group", "word", "w", by=["half"]), by=True)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("window", [1, 4])
def test_pairs_in_windows_are_those_of_a_slow_loop(table, rows, window):
    """In the order of the places, and weighted by how near they are. A gap is no distance."""
    known = [row for row in rows if row[3] is not None]
    expected: Pairs = defaultdict(float)
    for half, group in {row[:2] for row in known}:
        words = [
            row[3] for row in sorted(known, key=lambda row: row[2]) if row[:2] == (half, group)
        ]
        for at, word in enumerate(words):
            for other in range(at + 1, min(at + window + 1, len(words))):
                weight = 1 - (other - at - 1) / window
                expected[half, word, words[other]] += weight
                expected[half, words[other], word] += weight
    kept = table.where("word is not null")
    found = pairs_in_windows(kept, "group", "word", "place", window, by=["half"])
    assert collected(found, by=True) == pytest.approx(expected, abs=1e-5)


SENTENCES = [
    ["new", "york", "is", "big"],
    ["i", "love", "new", "york", "new", "york"],
    ["new", "ideas", "in", "york"],
    ["the", "big", "apple", "is", "new", "york"],
    ["a", "big", "apple"],
]


@pytest.fixture(scope="module")
def texts(spark):
    many = [(number, words) for number, words in enumerate(SENTENCES * 4)]
    return spark.createDataFrame(many, "id int, words array<string>")


def test_phrases_are_scored_as_by_gensim(texts):
    """Gensim multiplies with the size of its vocabulary, we with the number of tokens."""
    peer = Phrases(SENTENCES * 4, min_count=2, threshold=0.1, delimiter=" ")
    tokens = sum(map(len, SENTENCES)) * 4
    scale = tokens / len(peer.vocab)
    expected = {tuple(pair.split()): scale * value for pair, value in peer.export_phrases().items()}
    found = {}
    for row in scored_neighbours(texts, 2, 2.0).collect():
        found[row["first"], row["second"]] = row["score"]
    assert {pair: found[pair] for pair in expected} == pytest.approx(expected)
    least = min(expected.values())
    assert {pair for pair, value in found.items() if value > least - 1e-9} == expected.keys()


def test_phrases_are_joined_as_by_gensim(texts):
    peer = Phrases(SENTENCES * 4, min_count=2, threshold=1.0, delimiter=" ")
    phrases = {tuple(pair.split()) for pair in peer.export_phrases()}
    rows = with_phrases(texts, phrases).orderBy("id").limit(len(SENTENCES)).collect()
    assert [row["words"] for row in rows] == [peer[words] for words in SENTENCES]
    assert [merged(words, phrases) for words in SENTENCES] == [peer[words] for words in SENTENCES]


def test_the_best_phrases_are_chosen(texts):
    """By hand: (16 − 2) / (20 · 20) · 96 for new york, (8 − 2) / (12 · 8) · 96 for big apple."""
    assert common_phrases(texts, 5, 2.0, 3.0, most=9) == {("big", "apple"), ("new", "york")}
    assert common_phrases(texts, 5, 2.0, 3.0, most=1) == {("big", "apple")}
