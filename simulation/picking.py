"""Draws by weight: of a member of a group, and of a column of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Groups:
    """n members in k groups, each member with a weight.

    members: (n,) in the order of the groups; cumulated: (n,) weights; ends: (k + 1,) the weight at
    which each group begins, and the sum of all; guide: (cells,) for equal parts of that sum, the
    first place that a number in it can belong to.
    """

    members: np.ndarray
    cumulated: np.ndarray
    ends: np.ndarray
    guide: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, weights: np.ndarray, k: int) -> Groups:
        """groups: (n,) of each member, from 0 to k. There is at least one member."""
        members = np.argsort(groups, kind="stable")
        cumulated = np.cumsum(weights[members])
        last = np.searchsorted(groups[members], np.arange(k), side="right")
        ends = np.append(0.0, np.append(0.0, cumulated)[last])
        cells = 4 * len(members)
        guide = np.searchsorted(cumulated, np.arange(cells) * (ends[-1] / cells), side="right")
        return cls(members, cumulated, ends, guide)

    @property
    def weights(self) -> np.ndarray:
        """(k,) of all members of each group."""
        return np.diff(self.ends)

    def pick(self, groups: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """A member of each group, by weight. drawn: (picks,) float64 in [0, 1)."""
        target = self.ends[groups] + drawn * self.weights[groups]
        return self.members[self.place(target)]

    def place(self, target: np.ndarray) -> np.ndarray:
        """Where each number falls: as a binary search, but from the guide, which is faster."""
        last = len(self.members) - 1
        cell = (target * (len(self.guide) / self.ends[-1])).astype(np.int64)
        # One cell back, because the division may have rounded up.
        places = self.guide[np.clip(cell - 1, 0, len(self.guide) - 1)]
        open_ = np.flatnonzero(self.cumulated[np.minimum(places, last)] <= target)
        while len(open_):
            places[open_] += 1
            reached = places[open_] <= last
            open_ = open_[reached]
            open_ = open_[self.cumulated[places[open_]] <= target[open_]]
        return np.minimum(places, last)


def chosen(cumulated: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The column of each row that a number in [0, 1) falls into.

    cumulated: (n, k), rows ascend to the row's total, which may be other than 1. Returns (n,).
    """
    target = (drawn.astype(cumulated.dtype) * cumulated[:, -1])[:, None]
    # Rounding may reach the total itself.
    return np.minimum((cumulated <= target).sum(axis=1), cumulated.shape[1] - 1)
