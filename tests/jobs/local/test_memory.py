"""The memory sampler, with processes whose size is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from jobs.local.memory import EVERY_S, PeakMemory, pause_s, process_bytes

MB = 2**20
# Touches every page of 100 MB, so that all of it is resident.
HUNDRED_MB = f"x = bytearray(100 * {MB})\nfor i in range(0, len(x), 4096): x[i] = 1\n"
WAIT = "print(1, flush=True); input()"


@contextmanager
def running(code: str) -> Iterator[psutil.Process]:
    """A Python process that has run `code` and waits; killed afterwards with all its children."""
    command = [sys.executable, "-c", code + WAIT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        parent = psutil.Process(process.pid)
        try:
            yield parent
        finally:
            for member in [*parent.children(recursive=True), parent]:
                member.kill()


def test_a_child_is_counted_while_it_runs():
    """Sampled by a separate process: what other tests have started would grow and shrink here."""
    code = f"""
import subprocess, sys
from jobs.local.memory import PeakMemory
with PeakMemory() as alone:
    pass
child = subprocess.Popen([sys.executable, "-c", {HUNDRED_MB + WAIT!r}], stdin=-1, stdout=-1)
child.stdout.readline()
with PeakMemory() as both:
    pass
child.communicate(b"\\n")
print(both.peak() - alone.peak())
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 100 * MB < int(result.stdout) < 130 * MB


def test_memory_shared_by_forks_is_counted_once():
    """Two forks that only read the parent's memory: all three take about as much as the parent."""
    forks = "import os\nfor _ in range(2):\n  if os.fork() == 0: input()\n"
    with running(HUNDRED_MB + forks) as parent:
        family = [parent, *parent.children()]
        total = sum(process_bytes(process) for process in family)
    assert len(family) == 3
    assert 100 * MB < total < 140 * MB


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), AttributeError("pss")])
def test_without_pss_the_resident_size_counts(monkeypatch, error):
    """PSS is denied for processes of other users, and only Linux has it."""

    def denied(self):
        raise error

    with running(HUNDRED_MB) as process:
        monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
        assert process_bytes(process) == process.memory_info().rss > 100 * MB


def test_a_process_that_has_ended_takes_nothing():
    child = subprocess.Popen(["true"])
    ended = psutil.Process(child.pid)
    child.wait()
    assert process_bytes(ended) == 0


def test_sampling_takes_a_small_share_of_a_core():
    """The longer a sample takes, the fewer there are; samples that cost nothing are 2 s apart."""
    assert pause_s(0.0, 0.02) == EVERY_S
    for cost_s in (0.1, 0.2, 1.0):
        assert cost_s / (pause_s(cost_s, 0.02) + cost_s) <= 0.02


def test_a_block_between_two_samples_has_the_larger_of_both():
    memory = PeakMemory()
    memory.samples = [(0.0, 9), (10.0, 3), (20.0, 5), (30.0, 8)]
    assert memory.peak(12.0, 14.0) == 5  # of those at 10 and 20 s
    assert memory.peak(5.0, 14.0) == 9
    assert memory.peak(25.0, 40.0) == 8
    assert memory.peak() == 9
    assert PeakMemory().peak() == 0
