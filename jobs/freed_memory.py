"""Memory that a process has freed, and keeps for what comes next."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back() -> None:
    """Return to the system what this process has freed.

    Arrow's pool and the C library keep it, half a gigabyte after a long day, and another process of
    the day may need it.
    """
    if arrow := sys.modules.get("pyarrow"):
        arrow.default_memory_pool().release_unused()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
