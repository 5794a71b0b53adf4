"""Peak memory of a process and its descendants, sampled while a block runs."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from contextlib import suppress

import psutil

EVERY_S = 2.0  # at most so often


class PeakMemory(threading.Thread):
    """Samples the memory of this process and all its descendants; a context manager.

    samples: (unix seconds, bytes). largest: bytes of the largest single process so far. Sizes are
    proportional (PSS): a page shared by n processes counts 1/n in each, because forked processes
    share most of their pages. Where PSS is not available the resident size is used, which counts a
    shared page in full in every process.
    """

    def __init__(self, share: float = 1.0) -> None:
        """share: of a core, at most, for the sampling.

        The kernel looks at every page of every process, which takes 0.2 s for twenty processes.
        """
        super().__init__(daemon=True)
        self.share = share
        self.samples: list[tuple[float, int]] = []
        self.largest = 0
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        # The first sample is taken at once, so that a block of any length has one.
        while True:
            started_s = time.thread_time()
            sizes = tree_sizes(psutil.Process())
            self.samples.append((time.time(), sum(sizes)))
            self.largest = max(self.largest, *sizes)
            cost_s = time.thread_time() - started_s
            if self._over.wait(pause_s(cost_s, self.share)):
                return

    def peak(self, start: float = 0.0, end: float = float("inf")) -> int:
        """The largest sample from `start` to `end` (unix seconds); 0 if there is none.

        The samples just before and just after count too: a short step may fall between two samples.
        """
        samples = list(self.samples)
        times = [when for when, _ in samples]
        first = max(bisect_left(times, start) - 1, 0)
        last = bisect_right(times, end)
        return max((size for _, size in samples[first : last + 1]), default=0)


def pause_s(cost_s: float, share: float) -> float:
    """How long to wait after a sample that has taken `cost_s` seconds of CPU."""
    return max(EVERY_S, cost_s / share)


def tree_sizes(root: psutil.Process) -> list[int]:
    """Memory of a process and of each of its descendants, in bytes."""
    processes = [root, *root.children(recursive=True)]
    return [process_bytes(process) for process in processes]


def process_bytes(process: psutil.Process) -> int:
    """Proportional set size of a process, or its resident size where PSS is not available.

    Returns 0 for a process that has ended.
    """
    # PSS is denied for processes of other users, and only Linux has it.
    with suppress(psutil.Error, AttributeError):
        return process.memory_full_info().pss
    with suppress(psutil.Error):
        return process.memory_info().rss
    return 0
