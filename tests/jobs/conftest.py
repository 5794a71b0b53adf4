"""A Spark Connect server of the tests' own, as the services have it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

TOKEN = "for-a-test"


@pytest.fixture(scope="session")
def connect(tmp_path_factory):
    """Its address, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "EVERGREEN_HOME": str(tmp_path_factory.mktemp("connect")),
        "EVERGREEN_SERVICES__SPARK_PORT": str(port),
        "EVERGREEN_SPARK__MASTER": "local[2]",
        "EVERGREEN_SPARK__DRIVER_MEMORY": "1g",
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": TOKEN,
    }
    command = [sys.executable, "-m", "jobs.spark_server"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        yield f"sc://localhost:{port}/;token={TOKEN}"
    finally:
        server.terminate()
        assert server.wait(60) == 0


def wait_for(port: int, server: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    pytest.fail(f"Spark Connect did not listen on {port} within {seconds:g} s (exit code {server.poll()})")
