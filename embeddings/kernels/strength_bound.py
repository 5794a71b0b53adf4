"""A bound on the strength of a pair, so that no single pair owns a factorisation.

One strength of 10⁷ beside 600 of 1 is nearly all of the energy ‖X‖², and it raises the mean sums
that smoothing adds to those of all others. So a pair counts at most `ratio` times what one pair of
a hundred exceeds: a quantile does not depend on how large the largest strengths are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

UNBOUNDED = 2**63 - 1
EXCEED = 0.01  # the share of the pairs that exceed the usual strength; at least one pair does
BINS = 900 * 17 + 100  # of a strength to three digits: 0 to 999, then 900 for every further digit


def strength_counts(millionths: np.ndarray) -> np.ndarray:
    """How many pairs have each strength to three digits; the counts of several parts add up.

    millionths: (nnz,) int64, >= 0. Returns (BINS,) int64.
    """
    counts = np.zeros(BINS, np.int64)
    count_strengths(millionths, counts)
    return counts


def largest_strength(counts: np.ndarray, ratio: float) -> int:
    """The strength that a pair has at most, in millionths.

    counts: those of all pairs. ratio: 0 for no bound. Without a second pair to compare one with
    there is none either.
    """
    pairs = int(counts.sum())
    exceed = max(int(np.ceil(EXCEED * pairs)), 1)
    if not ratio or exceed >= pairs:
        return UNBOUNDED
    place = int(np.searchsorted(np.cumsum(counts), pairs - exceed))
    return min(int(ratio * strength_of(place)), UNBOUNDED)


def strength_of(place: int) -> int:
    """The smallest strength that is counted at a place."""
    further_digits = max((place - 100) // 900, 0)
    return (place - 900 * further_digits) * 10**further_digits


@njit(nogil=True, cache=True)
def count_strengths(millionths, counts):
    """counts[place of each strength] += 1."""
    for strength in millionths:
        leading = strength
        further_digits = 0
        while leading >= 1000:
            leading //= 10
            further_digits += 1
        counts[900 * further_digits + leading] += 1
