"""Ports for programs that must be given a number: Spark, Airflow, MLflow, python -m http.server.

Binding port 0 and closing it again is a race: until the program binds the number, the kernel may
give it to any other process. The ports here are below the range from which the kernel chooses
(32768 and above on Linux, 49152 on macOS), and a locked file reserves each for this process.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

FIRST = 20_000
LAST = 31_999
LOCKS = Path(tempfile.gettempdir()) / f"evergreen-test-ports-{os.getuid()}"


def reserve_port() -> int:
    """A port of 127.0.0.1 that is free, and that no other test process is given meanwhile."""
    LOCKS.mkdir(exist_ok=True)
    # Processes start at different ports, so that they rarely try the same one.
    n_ports = LAST - FIRST + 1
    start = os.getpid() * 97 % n_ports
    for step in range(n_ports):
        port = FIRST + (start + step) % n_ports
        if _lock(port) and _is_free(port):
            return port
    raise RuntimeError(f"no free port from {FIRST} to {LAST}; reserved ones are in {LOCKS}")


def _lock(port: int) -> bool:
    """Reserve a port for this process. False if a process, this one included, has reserved it."""
    file = os.open(LOCKS / str(port), os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True  # not closed: the kernel releases the lock when this process ends


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
