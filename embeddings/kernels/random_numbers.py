"""Random numbers in kernels: the n-th number of a key, whoever asks for it and in which order.

SplitMix64 (Steele, Lea, Flood 2014): a counter in steps of GOLDEN, and a finaliser that spreads it
over all bits. `embeddings.sampling.mixed` is the same finaliser for whole arrays.
"""

from __future__ import annotations

import numpy as np
from numba import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True)
def number(key, n):
    """The n-th number of a key, uint64. key, n: uint64."""
    z = key + GOLDEN * n
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True)
def below(drawn, n):
    """A number in 0 … n − 1 from the upper half of a drawn one. n < 2³²."""
    return np.int64(((drawn >> HALF) * np.uint64(n)) >> HALF)


@njit(nogil=True, cache=True)
def share_of_one(drawn):
    """A number in [0, 1) from the lower half of a drawn one, float32."""
    return np.float32((drawn & LOW) >> np.uint64(8)) * np.float32(2.0**-24)
