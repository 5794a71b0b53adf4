"""Which words are used otherwise than before: the distance of their vectors, beyond that of chance.

Each period is learned twice, from halves of its texts. A word whose use has not changed is as far
apart in two halves of one period as in halves of two periods: the difference of both distances is
how much it has moved, beside the others that are as frequent, since a vocabulary that turns over
moves all of them. Where the halves are paired otherwise, one of each period together, the same
difference shows what is chance: without a change, the three pairings cannot be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.spaces.reference import folds
from embeddings.spaces.rotation import Group, Rotations
from embeddings.spaces.similarity import unit_rows

BINS = 20  # of words that are about as frequent
LEVEL = 0.1  # the share of the words that are named which may be so by chance
LEAST = 5  # occurrences in a half, below which nothing is learned of a word from it
PERIODS = ((0, 1), (2, 3))  # the halves of each period together
OTHERS = (((0, 2), (1, 3)), ((0, 3), (1, 2)))  # one half of each
Distances = dict[tuple[int, int], np.ndarray]  # between two of the four halves, (n,) each


@dataclass(frozen=True)
class Half:
    """What was learned from one half of a period's texts, of words that it has LEAST times.

    Others would be the same noise in both halves of a period, and another one in other periods.
    ids: (n,) bytes, sorted; vectors: (n, k) float32; counts: (n,) occurrences in this half.
    """

    ids: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Movement:
    """How far each word has moved between two periods, n words.

    ids: (n,) bytes, sorted; counts: (n,) of the half with the fewest; moved: (n,) the cosine lost
    between the periods, beyond that between halves of one, and beyond the median of words that are
    as frequent; deviations: (n,) the same in standard deviations of chance; chance: (2, n) the
    deviations where the halves are paired otherwise.
    """

    ids: np.ndarray
    counts: np.ndarray
    moved: np.ndarray
    deviations: np.ndarray
    chance: np.ndarray

    def order(self) -> np.ndarray:
        """The rows by deviation, largest first; ties by id."""
        return np.lexsort((self.ids, -self.deviations))

    def found(self, level: float = LEVEL) -> np.ndarray:
        """The words that have moved, (n,) bool: about a share of `level` of them by chance at most.

        The lowest threshold t with (1 + #{chance ≥ t}) / 2 ≤ level · #{deviation ≥ t}: of both ways
        to pair halves otherwise, as many are above it as chance makes. Source: the rule of Barber
        and Candès 2015, "Controlling the false discovery rate via knockoffs", arXiv:1404.5609, with
        two knockoffs for each word.
        """
        candidates = np.sort(self.deviations)
        above = len(candidates) - np.searchsorted(candidates, candidates, side="left")
        chance = np.sort(self.chance, axis=None)
        by_chance = len(chance) - np.searchsorted(chance, candidates, side="left")
        enough = np.flatnonzero((1 + by_chance) / len(OTHERS) <= level * above)
        if not len(enough):
            return np.zeros(len(candidates), bool)
        return self.deviations >= candidates[enough[0]]


def movement(before: tuple[Half, Half], now: tuple[Half, Half]) -> Movement:
    """Compare two periods by the words that all four halves have."""
    halves = (*before, *now)
    ids, rows = shared(halves)
    if not len(ids):
        return Movement(ids, np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros((2, 0)))
    counts = np.min([half.counts[at] for half, at in zip(halves, rows, strict=True)], axis=0)
    vectors = [unit_rows(half.vectors[at]) for half, at in zip(halves, rows, strict=True)]
    distances: Distances = {}
    for a, b in combinations(range(4), 2):
        distances[a, b] = distance(ids, vectors[a], vectors[b], counts)
    moved = beyond(distances, PERIODS)
    chance = np.array([beyond(distances, pairing) for pairing in OTHERS])
    for alike in np.array_split(np.argsort(counts, kind="stable"), min(BINS, len(ids))):
        moved[alike] -= np.median(moved[alike])
        chance[:, alike] -= np.median(chance[:, alike], axis=1, keepdims=True)
    spread = spread_of(chance, counts)
    return Movement(ids, counts, moved, moved / spread, chance / spread)


def shared(halves: tuple[Half, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The ids that all halves have, and their row in each half."""
    ids = halves[0].ids
    for half in halves[1:]:
        ids = np.intersect1d(ids, half.ids, assume_unique=True)
    return ids, [np.searchsorted(half.ids, ids) for half in halves]


def distance(ids: np.ndarray, a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """1 − cosine of each word in two fits, (n,); each rotated without its own part.

    a, b: (n, k) float32, rows of length 1.
    """
    fold_of = folds(ids)
    weights = np.sqrt(counts).astype(np.float32)
    groups = []
    for fold in np.unique(fold_of):
        rows = fold_of == fold
        groups.append(Group(int(fold), a[rows], b[rows], weights[rows]))
    rotated = Rotations.of(groups).held_out(a, fold_of)
    with threadpool_limits(1):
        return 1.0 - np.einsum("ij,ij->i", rotated, b).astype(np.float64)


def beyond(distances: Distances, together: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The mean distance between two pairs of halves, minus that within them, (n,)."""
    within = [distances[pair] for pair in together]
    between = [found for pair, found in distances.items() if pair not in together]
    return np.mean(between, axis=0) - np.mean(within, axis=0)


def spread_of(chance: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The standard deviation of chance of each word, (n,), among words that are as frequent.

    chance: (2, n). Only of what is above zero: a word that has moved is far below, since halves of
    two periods are together there.
    """
    spread = np.ones(len(counts))
    for alike in np.array_split(np.argsort(counts, kind="stable"), min(BINS, len(counts))):
        above = chance[:, alike][chance[:, alike] > 0]
        if len(above):
            spread[alike] = np.sqrt(np.mean(above**2))
    return spread
