"""One process at a time runs the services of a home: two schedulers would run every day twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import psutil

from jobs.local.supervisor import ServiceError

LOCK = "services.lock"  # below home


@contextmanager
def sole_runner(home: Path) -> Iterator[None]:
    """Keep other processes from running the services of this home while the block runs.

    The kernel releases the lock of a process that is killed. Raises ServiceError at once where
    another process has it.
    """
    home.mkdir(parents=True, exist_ok=True)
    # "a+" neither truncates nor requires the file: until the lock is ours, the content is not.
    with (home / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(f"The services of {home} run already. {holder(lock)}") from None
        started = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "since": started}))
        lock.flush()
        yield


def holder(lock: IO[str]) -> str:
    """Who holds the lock, since when, and how to stop it."""
    lock.seek(0)
    try:
        record = json.loads(lock.read())
        pid, since = record["pid"], record["since"]
    except (ValueError, KeyError, TypeError):  # between the other's lock and its record
        return "Another process has just started them. Stop it with Ctrl-C in its terminal."
    where = f"process {pid}" if psutil.pid_exists(pid) else f"process {pid} of another container"
    return (
        f"They were started by {where} on {since}. Use them, or stop them first: press Ctrl-C in "
        f"its terminal, or run: kill {pid}"
    )
