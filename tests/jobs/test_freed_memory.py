"""What a step has freed is the system's again."""

from __future__ import annotations

import psutil

from jobs.freed_memory import give_back

SIZE = 1000  # bytes: small enough to come from the C library's heap


def test_freed_memory_is_given_back_although_some_beside_it_is_in_use():
    process = psutil.Process()
    every = [bytes(SIZE) for _ in range(200_000)]
    kept = every[::100]  # between two of them, whole pages are free
    full = process.memory_info().rss
    del every
    give_back()
    assert full - process.memory_info().rss > 100_000 * SIZE
    assert sum(map(len, kept)) == 2000 * SIZE
