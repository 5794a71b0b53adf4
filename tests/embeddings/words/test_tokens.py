"""Texts as tokens, and phrases from left to right."""

from __future__ import annotations

import pytest

from embeddings.words.phrases import merged
from embeddings.words.tokens import content_of, kind_of, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Buy $AAPL now, don't wait!", ["buy", "$aapl", "now", "don't", "wait"]),
        (
            "RT @Jack: #Fed (see http://t.co/AbC).",
            ["rt", "@jack", "#fed", "see", "http://t.co/AbC"],
        ),
        ("Ünïcode E\u0301té 東京", ["ünïcode", "été", "東京"]),
        ("a@b.c # @ $ ... 3.5%", ["a", "@b", "c", "3", "5"]),
        ("", []),
        ("x" * 101 + " short", ["short"]),
    ],
)
def test_a_text_has_these_tokens(text, expected):
    assert tokens(text) == expected


def test_every_token_is_of_a_kind():
    kinds = [kind_of(token) for token in tokens("Hi #tag @me https://x.org/a new york")]
    assert kinds == ["word", "hashtag", "mention", "link", "word", "word"]


def test_a_word_is_in_one_phrase_at_most():
    """From left to right: the first pair takes the word that both could have."""
    assert merged(list("abcab"), {("a", "b"), ("b", "c")}) == ["a b", "c", "a b"]
    assert merged(list("aaa"), {("a", "a")}) == ["a a", "a"]
    assert merged([], {("a", "b")}) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RT @me: Rain again https://x.org/a", "rain again"),
        ("Rain again #weather", "rain again"),
        ("#rain @me", "#rain @me"),
        ("RT @me", "rt @me"),
    ],
)
def test_copies_have_their_words_in_common_and_a_text_without_words_its_tokens(text, expected):
    assert content_of(tokens(text)) == expected
