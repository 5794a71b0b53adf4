"""Where a result comes from: the commit of the running code, the run of Airflow."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def code_commit() -> str:
    """The commit of the running code, with + where the tree differs from it.

    Outside a git checkout EVERGREEN_COMMIT names it, which an image has, or it is "unknown".
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        # Without untracked files: data and reports in the tree do not change the code.
        changed = _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("EVERGREEN_COMMIT") or "unknown"
    return f"{commit}+" if changed else commit


def airflow_run() -> str:
    """DAG/run of the Airflow task that this process is; empty for any other process."""
    dag, run = (os.environ.get(f"AIRFLOW_CTX_DAG_{part}") for part in ("ID", "RUN_ID"))
    return f"{dag}/{run}" if dag and run else ""


def _git(*args: str) -> str:
    command = ["git", "-C", str(ROOT), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
