"""The texts of the simulated world, and what is known of its words.

Some words are planted twice: where the world has w120, a text has w120 or v120, drawn for every
occurrence, so that both mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from simulation.chance import bits
from simulation.text import KINDS, Texts, meanings, texts
from simulation.world import World

PLANTED = 10  # every so many-th word has a synonym
WORD, SYNONYM = "w", "v"
PREFIXES = {"w": "word", "v": "word", "#h": "hashtag", "https://l.example/": "link"}


def written(world: World, day: int) -> list[str]:
    """The texts posted on a day, in the order of their items."""
    posted = texts(world, day)
    return lines_of(posted, spelt(world, day, posted))


def spelt(world: World, day: int, posted: Texts) -> list[str]:
    """The tokens of a day's texts, some of them by their synonym."""
    tokens = posted.spelt()
    drawn = bits(world.seed, f"synonyms/{day}", np.arange(len(tokens))) & np.uint64(1)
    twice = (posted.kinds == 0) & (posted.numbers % PLANTED == 0) & (drawn == 1)
    for at in np.flatnonzero(twice).tolist():
        tokens[at] = SYNONYM + tokens[at].removeprefix(WORD)
    return tokens


def lines_of(posted: Texts, tokens: list[str]) -> list[str]:
    """The texts with these tokens, separated by blanks."""
    bounds = zip(posted.ends[:-1].tolist(), posted.ends[1:].tolist(), strict=True)
    return [" ".join(tokens[start:end]) for start, end in bounds]


def topics_of(world: World, tokens: Iterable[str], day: int) -> np.ndarray:
    """The topic of each token on a day, (n,) int64; -1 for a mention or a phrase.

    A producer may be mentioned in several topics at once.
    """
    ambiguous = meanings(world, day)
    found = []
    for token in tokens:
        prefix = token.rstrip("0123456789")
        number = token[len(prefix) :]
        if not number or " " in token:
            found.append(-1)
        elif prefix == "a":
            found.append(int(ambiguous[int(number)]))
        elif prefix in PREFIXES:
            places = KINDS[PREFIXES[prefix]][1]
            found.append(int(number) % (world.topics * places) // places)
        else:
            found.append(-1)
    return np.array(found, np.int64)


def synonyms_of(tokens: list[str]) -> np.ndarray:
    """The rows of the words that are there with their synonym, (pairs, 2)."""
    rows = {token: row for row, token in enumerate(tokens)}
    pairs = []
    for token, row in rows.items():
        twin = rows.get(SYNONYM + token.removeprefix(WORD))
        if token.startswith(WORD) and twin is not None:
            pairs.append((row, twin))
    return np.array(pairs, np.int64).reshape(-1, 2)


def changed_share(world: World, tokens: Iterable[str], before: range, now: range) -> np.ndarray:
    """How much the topic of each token has changed between two ranges of days, (n,) from 0 to 1.

    The share of all pairs of a day of each with other topics. NaN where no topic is known.
    """
    texts_ = list(tokens)
    topics = {day: topics_of(world, texts_, day) for day in {*before, *now}}
    shares = np.zeros(len(texts_))
    for earlier in before:
        for later in now:
            shares += topics[earlier] != topics[later]
    shares /= len(before) * len(now)
    known = topics[before[0]] >= 0
    return np.where(known, shares, np.nan)
