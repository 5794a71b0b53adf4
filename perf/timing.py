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


def cpu_times() -> dict[psutil.Process, float]:
    """CPU seconds so far of this process and each descendant, with children it has waited for."""
    own = psutil.Process()
    found = {}
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended in this moment
            times = process.cpu_times()
            every = times.user + times.system + times.children_user + times.children_system
            found[process] = every
    return found


def cpu_since(before: dict[psutil.Process, float]) -> float:
    """CPU seconds of all processes since `cpu_times` returned this.

    What a process that has ended took counts where its parent waited for it. Nothing waits for
    Spark's Python workers, which end when they have had nothing to do for a minute: a difference of
    two sums would take all their time off the step in which they end.
    """
    return sum(seconds - before.get(process, 0.0) for process, seconds in cpu_times().items())
