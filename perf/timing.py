"""Wall time of a call, and CPU time of all processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psutil

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Call it, and return the seconds that it took and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def seconds(work: Callable[[], object]) -> float:
    """Call it, and return the seconds that it took."""
    took, _ = timed(work)
    return took


def cpu_seconds() -> float:
    """CPU time of this process and of all its descendants, those that have ended included."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended in this moment
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
