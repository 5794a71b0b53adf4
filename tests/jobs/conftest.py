"""A Spark Connect server of the tests' own, as the services have it."""

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
