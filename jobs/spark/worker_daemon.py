"""Forks Spark's Python workers: `spark.python.daemon.module` of a session that Evergreen starts.

PySpark's own daemon does the work. After each task it collects the garbage of the worker, and so
looks at everything that the worker has imported: 0.17 s of CPU with PyTorch and numba, more than
most tasks of a small day take. Here what is left after a task is left out of later collections, and
what the task has freed is given back to the system: a worker waits a minute for its next task.
"""

from __future__ import annotations

import gc
import socket

from pyspark import daemon

from jobs.freed_memory import give_back

run_task = daemon.worker


def run_task_and_tidy(sock: socket.socket, authenticated: bool) -> int:
    """Run one task in a forked worker. Returns its exit code, as PySpark's own function."""
    code = run_task(sock, authenticated)
    # Its garbage first: what is frozen is never found to be garbage.
    gc.collect()
    gc.freeze()
    give_back()
    return code


if __name__ == "__main__":
    daemon.worker = run_task_and_tidy
    daemon.manager()
