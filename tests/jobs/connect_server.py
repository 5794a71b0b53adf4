"""A Spark Connect server in a separate process, started as the services start it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import reserve_port

TOKEN = "for-a-test"


@contextmanager
def serving(home: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and its address; killed afterwards if it is still running."""
    port = reserve_port()
    environment = os.environ | {
        "EVERGREEN_HOME": str(home),
        "EVERGREEN_SERVICES__SPARK_PORT": str(port),
        "EVERGREEN_SPARK__MASTER": "local[2]",
        "EVERGREEN_SPARK__DRIVER_MEMORY": "1g",
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "jobs.spark.connect_server"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        yield server, f"sc://localhost:{port}/;token={TOKEN}"
    finally:
        server.kill()
        server.wait()


def wait_for(port: int, server: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    pytest.fail(
        f"Spark Connect did not listen on {port} within {seconds:g} s (exit code {server.poll()})"
    )
