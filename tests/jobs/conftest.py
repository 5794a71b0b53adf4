"""A Spark Connect server for the tests, as the services run it."""

from __future__ import annotations

import signal

import pytest
from connect_server import serving


@pytest.fixture(scope="session")
def connect(tmp_path_factory):
    """Its address, on loopback."""
    with serving(tmp_path_factory.mktemp("connect")) as (server, address):
        yield address
        server.send_signal(signal.SIGINT)  # as the supervisor does first
        assert server.wait(60) == 0
