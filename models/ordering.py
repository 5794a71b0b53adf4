"""The order of many numbers, as a stable argsort finds it, in a tenth of its time."""

from __future__ import annotations

import numpy as np

LOW = (1 << 32) - 1  # the 32 bits that have the number of a row


def ascending(keys: np.ndarray) -> np.ndarray:
    """The rows by ascending key, equal keys in the order of the rows: (n,) -> (n,) int64.

    keys: float32 or int32. A key and its row's number are packed into one integer of 64 bits: NumPy
    sorts these with vector instructions, and has none for a stable argsort. As `np.argsort(keys,
    kind="stable")`, to which other keys, and those with a NaN, are left.
    """
    packable = keys.dtype == np.int32 or (keys.dtype == np.float32 and not np.isnan(keys).any())
    if not packable or len(keys) > LOW:
        return np.argsort(keys, kind="stable")
    packed = ordered_bits(keys).astype(np.int64)
    packed <<= 32
    packed |= np.arange(len(keys), dtype=np.int64)
    packed.sort()
    packed &= LOW
    return packed


def ordered_bits(keys: np.ndarray) -> np.ndarray:
    """Integers in the order of the keys, equal ones for equal keys: (n,) int32."""
    if keys.dtype == np.int32:
        return keys
    bits = (keys + np.float32(0)).view(np.int32)  # the sum makes 0 of −0
    # Of negative floats, a larger distance from 0 has larger bits: all but the sign are turned.
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
