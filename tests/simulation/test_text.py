"""Texts: a vocabulary that turns over, and words that change their meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.drift import STILL, Drift
from simulation.items import posts
from simulation.people import producers
from simulation.text import NAMES, Texts, meanings, texts
from simulation.world import World

WORLD = World(consumers=10, producers=4000, topics=8)


def top(found: Texts, kind: str, n: int) -> set[int]:
    """The most frequent tokens of a kind."""
    numbers = found.numbers[found.kinds == NAMES.index(kind)]
    tokens, counts = np.unique(numbers, return_counts=True)
    return set(tokens[np.argsort(-counts, kind="stable")][:n].tolist())


@pytest.mark.parametrize(
    ("kind", "n"), [("word", 500), ("hashtag", 100), ("mention", 100), ("link", 100)]
)
def test_half_of_the_top_tokens_of_a_month_ago_are_gone_and_most_of_yesterdays_are_not(kind, n):
    now, yesterday, month_ago = (top(texts(WORLD, day), kind, n) for day in (40, 39, 10))
    assert len(now & month_ago) < 0.5 * n
    assert len(now & yesterday) > 0.55 * n


def test_in_a_still_world_the_vocabulary_stays():
    still = replace(WORLD, drift=STILL)
    sets = []
    for day in (0, 30):
        found = texts(still, day)
        sets.append(set(zip(found.kinds.tolist(), found.numbers.tolist(), strict=True)))
    rare = sets[0] ^ sets[1]
    assert len(rare) < 0.15 * len(sets[0] & sets[1])
    fresh = texts(replace(WORLD, drift=replace(STILL, words=0.05)), 30)
    assert fresh.numbers.max() > max(number for _, number in sets[1])


def test_ambiguous_words_change_their_topic_at_the_rate_of_the_dial():
    """A share of 0.02 a day: over 200 days about 4 changes a word, of which 7 in 8 are visible."""
    world = replace(WORLD, drift=Drift(meanings=0.02))
    days = np.array([meanings(world, day) for day in range(201)])
    changes = np.mean(days[1:] != days[:-1])
    assert changes == pytest.approx(0.02 * 7 / 8, abs=0.002)


def test_an_ambiguous_word_is_used_in_the_topic_that_it_has_on_the_day():
    found = texts(WORLD, 12)
    topics = np.repeat(posts(WORLD, 12).topics, np.diff(found.ends))
    ambiguous = found.kinds == NAMES.index("ambiguous")
    assert ambiguous.sum() > 100
    used_in = topics[ambiguous]
    np.testing.assert_array_equal(meanings(WORLD, 12)[found.numbers[ambiguous]], used_in)


def test_mentions_are_of_producers_of_the_day():
    found = texts(WORLD, 12)
    mentioned = found.numbers[found.kinds == NAMES.index("mention")]
    assert set(mentioned.tolist()) <= set(producers(WORLD, 12).ids.tolist())


def test_a_text_is_written_as_its_tokens():
    kinds = np.array([0, 1, 2, 3, 4], np.int8)
    found = Texts(np.array([7, 8]), np.array([0, 2, 5]), kinds, np.arange(5))
    assert found.written() == ["w0 a1", "#h2 @p3 https://l.example/4"]
