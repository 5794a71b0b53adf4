"""Where a result comes from: the commit of the running code."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def code_commit() -> str:
    """The commit of the running code, with + where the tree differs from it.

    "unknown" outside a git checkout.
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        # Without untracked files: data and reports in the tree do not change the code.
        changed = _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def _git(*args: str) -> str:
    command = ["git", "-C", str(ROOT), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
