"""The memory sampler against a process whose size is known."""

from __future__ import annotations

import subprocess
import sys

import psutil

from jobs.memory import PeakMemory, process_bytes

HUNDRED_MB = "x = bytearray(100 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint(1, flush=True); input()"


def test_a_child_is_counted_while_it_lives():
    with PeakMemory() as memory:
        pass
    alone = memory.peak()
    child = subprocess.Popen([sys.executable, "-c", HUNDRED_MB], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    with PeakMemory() as memory:
        pass
    child.communicate(b"\n")
    assert 100 * 2**20 < memory.peak() - alone < 130 * 2**20


def test_memory_shared_by_forks_is_counted_once():
    """Two forks that only read what their parent made: the three together take about as much as the parent did."""
    code = (
        "import os\nx = bytearray(100 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"
        "for _ in range(2):\n  if os.fork() == 0: input()\nprint(1, flush=True); input()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    parent.stdout.readline()
    family = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children()]
    total = sum(process_bytes(process) for process in family)
    for process in reversed(family):
        process.kill()
    assert len(family) == 3
    assert 100 * 2**20 < total < 140 * 2**20
    parent.communicate()


def test_a_process_that_is_gone_takes_nothing():
    child = subprocess.Popen(["true"])
    gone = psutil.Process(child.pid)
    child.wait()
    assert process_bytes(gone) == 0
