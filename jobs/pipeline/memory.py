"""Memory between the steps of a day that one process computes."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import pyarrow as pa


def give_back() -> None:
    """Return to the system what this process has freed.

    Arrow's pool and the C library keep it for what comes next, half a gigabyte after a long day,
    and Spark may need it in another process.
    """
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
