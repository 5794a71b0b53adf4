"""How much memory a process and all that it started take, sampled while a block runs."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

EVERY_S = 2.0


class PeakMemory(threading.Thread):
    """Samples the memory of this process and everything below it, as a context manager.

    samples: (unix seconds, bytes). A page shared by n processes counts 1/n in each (PSS), since forks share most of
    theirs; where the kernel does not tell this user the PSS, the resident size is taken, shared pages in full.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, int]] = []
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while True:
            self.samples.append((time.time(), tree_bytes(psutil.Process())))
            if self._over.wait(EVERY_S):
                return

    def peak(self, start: float = 0.0, end: float = float("inf")) -> int:
        """The largest sample between two moments, the samples just before and after included."""
        return max(
            (size for when, size in self.samples if start - EVERY_S <= when <= end + EVERY_S),
            default=0,
        )


def tree_bytes(root: psutil.Process) -> int:
    """Memory of a process and its descendants, bytes."""
    return sum(process_bytes(process) for process in [root, *root.children(recursive=True)])


def process_bytes(process: psutil.Process) -> int:
    """Proportional set size of one process, its resident size where that is not told; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    with suppress(psutil.Error):
        return process.memory_info().rss
    return 0
