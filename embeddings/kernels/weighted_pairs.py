"""Pairs of a positive and a negative row, counted under many weights at once."""

from __future__ import annotations

import numpy as np
from numba import njit


class WeightedPairs:
    """The AUC of rows that come in ascending order of their scores, for each of r weightings.

    Equal scores may go on in the next rows. Sums are of whole numbers, hence exact below 2^53.
    """

    def __init__(self, weights: np.ndarray) -> None:
        """weights: (users, r) uint8, of the rows of each user."""
        self.weights = weights
        r = weights.shape[1]
        self.pairs = np.zeros(r)  # in order, twice; those of equal scores once
        self.positives = np.zeros(r)
        self.negatives = np.zeros(r)
        self.tied = np.zeros((2, r))  # negatives, and positives, of the highest score so far
        self.highest = np.nan

    def add(self, scores: np.ndarray, drawn: np.ndarray) -> None:
        """The next rows. scores: (n,). drawn: (n,) uint32, twice the user, and 1 for a positive."""
        state = (self.pairs, self.positives, self.negatives, self.tied)
        self.highest = add_rows(scores, drawn, self.weights, self.highest, *state)

    def auc(self) -> np.ndarray:
        """(r,) float64; NaN without a pair. No rows may follow."""
        add_tied(self.pairs, self.positives, self.negatives, self.tied)
        pairs = self.positives * self.negatives
        with np.errstate(invalid="ignore"):
            return np.where(pairs > 0, self.pairs / 2 / pairs, np.nan)


@njit(nogil=True, cache=True)
def add_rows(scores, drawn, weights, highest, pairs, positives, negatives, tied):
    """Add the rows in place; returns the last score."""
    for i in range(len(scores)):
        if scores[i] != highest:
            add_tied(pairs, positives, negatives, tied)
            highest = scores[i]
        user = drawn[i] >> 1
        same = tied[drawn[i] & 1]
        for f in range(len(same)):
            same[f] += weights[user, f]
    return highest


@njit(nogil=True, cache=True)
def add_tied(pairs, positives, negatives, tied):
    """Add the rows of one score, above all others so far."""
    for f in range(len(pairs)):
        pairs[f] += tied[1, f] * (2 * negatives[f] + tied[0, f])
        positives[f] += tied[1, f]
        negatives[f] += tied[0, f]
        tied[0, f] = 0
        tied[1, f] = 0
