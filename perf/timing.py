"""Wall time of a call, and CPU time of all processes."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)
