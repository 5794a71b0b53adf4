"""A share of the negatives: less to train on where most rows are positives of no label.

One number u of a row, uniform in [0, 1), decides: a label of the row counts if it is positive or u
is below the share, and the row is read if any of its labels counts. So every label is trained on
all of its positives and on the same share of its negatives, whatever the other labels are. What
this does to the odds is undone in the loss (`models.losses`): a ranker predicts the rates of the
whole log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from models.features import Batch, Day, Examples

PIECE = 32_768  # rows that are drawn from at once


@dataclass(frozen=True)
class Sampled:
    """The examples of a day with a share of its negatives, as `models.features.Examples`.

    A label that does not count is NaN. What is drawn depends on the seed, the name of the day and
    the position of the row in it, and on nothing else.
    """

    day: Examples
    share: float  # of the negatives, in (0, 1]
    seed: int

    @property
    def name(self) -> str:
        return self.day.name

    @property
    def space(self) -> str:
        return self.day.space

    @property
    def has_vectors(self) -> bool:
        return self.day.has_vectors

    def __len__(self) -> int:
        return self.rows

    @cached_property
    def rows(self) -> int:
        rng = self.generator()
        rows = 0
        for labels in self.day.outcomes(PIECE):
            rows += int(counting(labels, self.share, rng).any(axis=1).sum())
        return rows

    def pieces(self, size: int) -> Iterator[Day]:
        """Consecutive rows in memory, in order: `size` rows each, the last may have fewer."""
        held: Day | None = None
        for drawn in self.drawn():
            rows = drawn if held is None else held.followed_by(drawn)
            whole = len(rows) - len(rows) % size
            yield from rows.part(slice(whole)).pieces(size)
            held = rows.part(slice(whole, None))
        if held is not None:
            yield from held.pieces(size)

    def outcomes(self, size: int) -> Iterator[np.ndarray]:
        """The labels of consecutive rows, (n, L) float32, as `pieces`."""
        for piece in self.pieces(size):
            yield piece.labels

    def batches(self, size: int) -> Iterator[Batch]:
        """Consecutive rows, in order; the last batch may be shorter."""
        for piece in self.pieces(size * max(1, PIECE // size)):
            yield from piece.batches(size)

    def drawn(self) -> Iterator[Day]:
        """The rows that are read, a piece of the day at a time, with NaN where no label counts."""
        rng = self.generator()
        for piece in self.day.pieces(PIECE):
            counts = counting(piece.labels, self.share, rng)
            labels = np.where(counts, piece.labels, np.float32(np.nan))
            yield replace(piece, labels=labels).part(np.flatnonzero(counts.any(axis=1)))

    def generator(self) -> np.random.Generator:
        """It draws the numbers of all rows in their order."""
        return np.random.default_rng([self.seed, *self.name.encode()])


def counting(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which labels of these rows count: (n, L) bool, of labels 0/1."""
    drawn = rng.random(len(labels)) < share
    return (labels > 0) | drawn[:, None]
