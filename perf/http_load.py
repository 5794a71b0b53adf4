"""Requests over connections that are kept, from raw sockets: a client library costs more time."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable

import numpy as np

Request = Callable[[], bytes]


class Connection:
    """One connection to a service on this machine. Every answer has a Content-Length."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def receive(self) -> bytes:
        """The body of the next answer. Raises RuntimeError unless its status is 200."""
        end = self.received.find(b"\r\n\r\n")
        while end < 0:
            self._more()
            end = self.received.find(b"\r\n\r\n")
        head = bytes(self.received[:end]).lower()
        _, _, length = head.partition(b"content-length:")
        stop = end + 4 + int(length.split(b"\r\n")[0])
        while len(self.received) < stop:
            self._more()
        body = bytes(self.received[end + 4 : stop])
        del self.received[:stop]
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"The service answered {head[:20]!r}: {body[:500]!r}")
        return body

    def _more(self) -> None:
        part = self.socket.recv(1 << 20)
        if not part:
            raise RuntimeError("The service closed the connection.")
        self.received += part


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: registry\r\n\r\n".encode()


def post(path: str, body: bytes, accept: str) -> bytes:
    """A request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: registry\r\nAccept: {accept}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def latencies(port: int, request: Request, n: int) -> np.ndarray:
    """Seconds of n requests, one after the other, (n,)."""
    connection = Connection(port)
    taken = np.empty(n)
    for number in range(n):
        sent = request()
        started = time.perf_counter()
        connection.send(sent)
        connection.receive()
        taken[number] = time.perf_counter() - started
    connection.socket.close()
    return taken


def throughput(port: int, request: Request, n: int, connections: int) -> float:
    """Requests per second, each connection sending the next one when it has its answer."""
    waiting = deque(Connection(port) for _ in range(connections))
    started = time.perf_counter()
    for connection in waiting:
        connection.send(request())
    for _ in range(n):
        connection = waiting.popleft()
        connection.receive()
        connection.send(request())
        waiting.append(connection)
    taken = time.perf_counter() - started
    for connection in waiting:
        connection.receive()
        connection.socket.close()
    return n / taken
