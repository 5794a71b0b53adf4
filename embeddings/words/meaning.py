"""Which words are used otherwise than before: the distance of their vectors, beyond that of chance.

Each period is learned twice, from halves of its texts. A word whose use has not changed is as far
apart in two halves of one period as in halves of two periods: the difference of both distances is
how much it has moved, beside the others that are as frequent, since a vocabulary that turns over
moves all of them. Of words that have not moved, as many are above the others as below: what is
below shows how much above is chance.
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
PERIODS = ((0, 1), (2, 3))  # of the four halves


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
    as frequent; deviations: (n,) the same in standard deviations of those below the median.
    """

    ids: np.ndarray
    counts: np.ndarray
    moved: np.ndarray
    deviations: np.ndarray

    def order(self) -> np.ndarray:
        """The rows by deviation, largest first; ties by id."""
        return np.lexsort((self.ids, -self.deviations))

    def found(self, level: float = LEVEL) -> np.ndarray:
        """The words that have moved, (n,) bool: at most a share of `level` of them by chance.

        The lowest threshold t with (1 + #{deviation ≤ −t}) / #{deviation ≥ t} ≤ level, so that none
        is found where fewer than 1/level stand out. Source: Barber and Candès 2015, "Controlling
        the false discovery rate via knockoffs", arXiv:1404.5609, its knockoff+ rule.
        """
        sizes = np.sort(np.abs(self.deviations))
        above = len(sizes) - np.searchsorted(np.sort(self.deviations), sizes, side="left")
        below = np.searchsorted(np.sort(self.deviations), -sizes, side="right")
        enough = np.flatnonzero((1 + below <= level * above) & (sizes > 0))
        if not len(enough):
            return np.zeros(len(sizes), bool)
        return self.deviations >= sizes[enough[0]]


def movement(before: tuple[Half, Half], now: tuple[Half, Half]) -> Movement:
    """Compare two periods by the words that all four halves have."""
    halves = (*before, *now)
    ids, rows = shared(halves)
    counts = np.zeros(0, np.int64)
    if not len(ids):
        return Movement(ids, counts, np.zeros(0), np.zeros(0))
    counts = np.min([half.counts[at] for half, at in zip(halves, rows, strict=True)], axis=0)
    vectors = [unit_rows(half.vectors[at]) for half, at in zip(halves, rows, strict=True)]
    within = np.zeros(len(ids))
    between = np.zeros(len(ids))
    for pair in combinations(range(4), 2):
        a, b = pair
        found = distance(ids, vectors[a], vectors[b], counts)
        if pair in PERIODS:
            within += found / 2
        else:
            between += found / 4
    return Movement(ids, counts, *standardised(between - within, counts))


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


def standardised(beyond: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances less their median, and in deviations of those below it, among as frequent words."""
    moved = np.zeros(len(beyond))
    deviations = np.zeros(len(beyond))
    for rows in np.array_split(np.argsort(counts, kind="stable"), min(BINS, len(beyond))):
        moved[rows] = beyond[rows] - np.median(beyond[rows])
        low = moved[rows][moved[rows] < 0]
        if len(low):
            deviations[rows] = moved[rows] / np.sqrt(np.mean(low**2))
    return moved, deviations
