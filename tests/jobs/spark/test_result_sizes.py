"""No step collects at the driver what grows with the log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from jobs.parts import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FEW, MANY = 300, 6_000  # consumers


def test_what_reaches_the_driver_does_not_grow_with_the_log(tmp_path):
    """A number for each consumer would take eight bytes each; there are ten rows of each, too."""
    found = {}
    for consumers in (FEW, MANY):
        command = [sys.executable, "-m", "tests.jobs.spark.result_sizes", str(consumers)]
        done = subprocess.run(
            [*command, str(tmp_path / str(consumers))], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[consumers] = json.loads(done.stdout.splitlines()[-1])
    assert found[FEW].keys() == set(STEPS)
    assert sum(found[FEW].values()) > 0
    for step in STEPS:
        grown = found[MANY][step] - found[FEW][step]
        assert grown < 2 * (MANY - FEW), (step, found[FEW][step], found[MANY][step])
