"""The memory sampler against a process whose size is known."""

from __future__ import annotations

import subprocess
import sys

import psutil

from jobs.local.memory import process_bytes

HUNDRED_MB = "x = bytearray(100 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint(1, flush=True); input()"


def test_a_child_is_counted_while_it_lives():
    """Sampled by a process of its own: what the other tests have started grows and shrinks as it likes."""
    code = (
        "import subprocess, sys\nfrom jobs.local.memory import PeakMemory\n"
        "with PeakMemory() as alone: pass\n"
        f"child = subprocess.Popen([sys.executable, '-c', {HUNDRED_MB!r}], stdin=-1, stdout=-1)\n"
        "child.stdout.readline()\n"
        "with PeakMemory() as both: pass\n"
        "child.communicate(b'\\n')\nprint(both.peak() - alone.peak())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100 * 2**20 < int(told.stdout) < 130 * 2**20


def test_memory_shared_by_forks_is_counted_once():
    """Two forks that only read what their parent made: the three together take about as much as the parent did."""
    code = (
        "import os\nx = bytearray(100 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"
        "for _ in range(2):\n  if os.fork() == 0: input()\nprint(1, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
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
