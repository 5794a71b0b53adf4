"""Rows that are computed at once where a CPU computes: few, so that what is read again is cached.

Larger arrays are also slower because the C library returns them to the system when they are freed,
and asks for them again: at 2^15 numbers, that took most of the time of a calibration.
"""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 1 << 13  # rows; another number rounds sums differently


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive rows, `size` at a time."""
    for start in range(0, n, size):
        yield slice(start, start + size)
