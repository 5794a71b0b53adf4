"""Real S3 servers in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from embeddings.storage.bucket import Bucket
from embeddings.storage.objects import Objects
from embeddings.storage.opening import bucket
from embeddings.storage.place import Place
from tests.ports import reserve_port

PATIENCE_S = 120.0


class Server:
    """A server that can be killed and started again, on the same port and with the same files."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.port = reserve_port()
        self.folder = folder
        self.command = [sys.executable, *COMMANDS[kind](folder, str(self.port))]
        self.process: subprocess.Popen | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def objects(self, prefix: str = "home") -> Objects:
        if self.kind == "moto":  # reads only signed requests, whoever signs them
            os.environ |= {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
        unsigned = self.kind != "moto"
        return Objects(f"s3://evergreen/{prefix}", self.endpoint, unsigned)

    def start(self) -> None:
        with self.folder.with_suffix(".log").open("a") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.put(f"{self.endpoint}/evergreen", timeout=5).status_code in (200, 409):
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self.command} did not serve {self.endpoint}: see {self.folder}.log")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


COMMANDS = {
    "seaweedfs": lambda folder, port: ["-m", "jobs.local.store_server", str(folder), port],
    "moto": lambda folder, port: ["-m", "moto.server", "-H", "127.0.0.1", "-p", port],
    "localbucket": lambda folder, port: ["-m", "localbucket", "--port", port, str(folder)],
}


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[Server]:
    """A running server; killed afterwards."""
    server = Server(kind, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def place_of(server: Server, home: Path, name: str = "lake", cache_gb: float = 1.0) -> Bucket:
    """A place in a bucket, under a prefix of its own, as a machine with this home sees it."""
    return bucket(server.objects(home.parent.name), home / "copy", cache_gb, name)


def harm(place: Place, home: Path, name: str, data: bytes | None) -> None:
    """Overwrite a file of a content where it is kept, or delete it."""
    if isinstance(place, Bucket):
        key = place.content_key(home / name)
        place.objects.delete([key]) if data is None else place.objects.put(key, data)
    elif data is None:
        (home / name).unlink()
    else:
        (home / name).write_bytes(data)
