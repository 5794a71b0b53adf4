"""The short forms of `make test-faults` and `make test-cluster`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_home_after_a_storm_equals_one_without():
    command = [sys.executable, "-m", "tests.faults.storm", "--kills", "20", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "20 kills: 0 differences" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cluster_whose_executors_die_computes_the_same():
    command = [sys.executable, "-m", "tests.faults.cluster_storm", "--rounds", "1", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "kills: 0 differences" in done.stdout
