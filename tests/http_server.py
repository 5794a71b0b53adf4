"""An application as a service on loopback, in a thread of the tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn


@contextmanager
def serving(application: Callable) -> Iterator[str]:
    """The address at which an application runs."""
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    listener = socket.create_server(("127.0.0.1", 0))
    run = {"sockets": [listener]}
    thread = threading.Thread(target=server.run, kwargs=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the service did not start within 20 s"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()
