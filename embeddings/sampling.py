"""Samples by a hash of the id: the same entities are in them on every day and every machine."""

from __future__ import annotations

import numpy as np


def smallest_hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """The rows of the n ids with the smallest hashes, ascending: a sample that stays the same."""
    if len(ids) <= n:
        return np.arange(len(ids))
    return np.sort(np.argpartition(hashes(ids), n)[:n])


def hashes(ids: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each id, (n,) uint64; the width of the array makes no difference.

    ids: (n,) bytes. FNV-1a, then the finaliser of SplitMix64, which spreads what differs in the
    last byte over all bits.
    """
    width = ids.dtype.itemsize
    characters = np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), width)
    found = np.full(len(ids), 0xCBF29CE484222325, np.uint64)
    for column in characters.T:
        step = (found ^ column) * np.uint64(0x100000001B3)
        found = np.where(column != 0, step, found)  # 0 fills shorter ids
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
