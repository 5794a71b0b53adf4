"""The short forms of `make test-faults` and `make test-cluster`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("module", "size", "said"),
    [
        ("storm", ["--kills", "20"], "20 kills: 0 differences"),
        ("cluster_storm", ["--rounds", "1"], "kills: 0 differences"),
    ],
)
def test_a_home_after_a_storm_equals_one_without(module, size, said):
    command = [sys.executable, "-m", f"tests.faults.{module}", *size, "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert said in done.stdout
