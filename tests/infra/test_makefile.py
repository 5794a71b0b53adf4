"""What `make` tells the programs that it starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("goal", "bucket"), [("doctor", True), ("test-faults", False), ("bench-scale", False)]
)
def test_a_bucket_is_that_of_the_demo_and_of_nothing_else(tmp_path, goal, bucket):
    """A storm of faults compares a bucket with folders, so the settings of both are its own."""
    for name in ("evergreen", "python"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\nenv\n")
        program.chmod(0o700)
    (tmp_path / ".installed").touch()
    command = ["make", "-s", goal, "STORAGE=s3", f"VENV={tmp_path}", f"INSTALLED={tmp_path}"]
    others = {key: text for key, text in os.environ.items() if not key.startswith("EVERGREEN_")}
    ran = subprocess.run(command, cwd=ROOT, env=others, capture_output=True, text=True, check=True)
    assert ("EVERGREEN_STORAGE__URL=s3://evergreen/demo" in ran.stdout) is bucket
