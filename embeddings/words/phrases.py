"""Phrases: words that follow each other more often than chance become one token.

    score(a, b) = (count(a b) − discount) / (count(a) · count(b)) · tokens

Source: Mikolov et al. 2013, arXiv:1310.4546, equation 6, times the number of tokens as in its code,
so that a threshold means the same for a text of any length.
"""

from __future__ import annotations

from collections.abc import Collection

JOINT = " "  # no token has one


def score(pair: float, first: float, second: float, tokens: float, discount: float) -> float:
    """How much more often two words follow each other than chance says, after a discount."""
    return (pair - discount) / (first * second) * tokens


def merged(words: list[str], phrases: Collection[tuple[str, str]]) -> list[str]:
    """The words with each phrase as one, from left to right: a word is in one phrase at most."""
    found: list[str] = []
    at = 0
    while at < len(words):
        pair = tuple(words[at : at + 2])
        found.append(JOINT.join(pair) if pair in phrases else words[at])
        at += 2 if pair in phrases else 1
    return found
