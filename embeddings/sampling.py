"""Draws by a hash of the id: the same for an entity on every day and every machine."""

from __future__ import annotations

import numpy as np

BLOCK = 1 << 14  # ids that are hashed at once


def smallest_hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """The rows of the n ids with the smallest hashes, ascending: a sample that stays the same."""
    if len(ids) <= n:
        return np.arange(len(ids))
    # In blocks: hashing has several arrays as long as the ids, and is faster where they are cached.
    parts = [hashes(ids[start : start + BLOCK]) for start in range(0, len(ids), BLOCK)]
    return np.sort(np.argpartition(np.concatenate(parts), n)[:n])


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
    return mixed(found)


def noise(ids: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """Numbers between −1 and 1 that depend on the id, the column and the seed: (n, width) float32.

    ids: (n,) bytes. Uniform, with mean 0 and variance 1/3.
    """
    start = mixed(np.full(1, seed, np.int64).view(np.uint64))
    columns = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    drawn = mixed(hashes(ids)[:, None] + columns + start)
    return (drawn / 2.0**63 - 1).astype(np.float32)


def mixed(numbers: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: neighbouring numbers become unrelated ones. numbers: uint64."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
