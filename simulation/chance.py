"""Chance without a state: a draw is a function of the seed, a name, and what it is drawn for.

So the properties of consumer 70,000 on day 300 are computed without those of any other consumer or
day, and always have the same bytes.
"""

from __future__ import annotations

import hashlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)


def key(seed: int, name: str) -> int:
    """64 bits for the draws of a name."""
    text = f"{seed}/{name}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """A generator for many draws at once. numbers: what else they belong to, such as the day."""
    return np.random.default_rng([key(seed, name), *(number + 2**31 for number in numbers)])


def bits(seed: int, name: str, *numbers: np.ndarray | int) -> np.ndarray:
    """64 random bits for each tuple of whole numbers; arrays are broadcast. Returns uint64.

    The finaliser of splitmix64 after each number (Steele et al., OOPSLA 2014).
    """
    state = np.full(1, key(seed, name), np.uint64)
    for each in numbers:
        state = mixed((state ^ np.asarray(each).astype(np.int64).view(np.uint64)) + GOLDEN)
    return state


def mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return x ^ (x >> np.uint64(31))


def uniforms(seed: int, name: str, *numbers: np.ndarray | int) -> np.ndarray:
    """A number in [0, 1) for each tuple of whole numbers. Returns float64."""
    return (bits(seed, name, *numbers) >> np.uint64(11)) * 2.0**-53


def normals(seed: int, name: str, ids: np.ndarray, dim: int) -> np.ndarray:
    """Independent standard normal numbers for each id, by Box and Muller. Returns (n, dim) float32.

    dim is even.
    """
    pairs = np.arange(dim // 2)
    drawn = bits(seed, name, ids[:, None], pairs[None, :])  # (n, dim / 2)
    # 1 - u, so that the logarithm is finite: 24 bits fit a float32.
    u = 1 - (drawn >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    angle = (drawn & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2 * np.pi * 2.0**-24)
    radius = np.sqrt(-2 * np.log(u))
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
