"""A stand-in for Kubernetes' API: a pod that is created is a process of this machine.

It knows what Spark asks for: pods and config maps are created, listed, read, changed and deleted. A
container's command runs without `tini` and the entrypoint, which are in the image alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = Path(__file__).parents[2]
ONLY_IN_THE_IMAGE = ["tini", "--", "/entrypoint"]
HERE = {"status.podIP": "127.0.0.1"}  # of every pod


class Pods:
    """What was created, and the processes of the pods. logs: a folder for what they print."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.objects: dict[str, dict[str, Any]] = {}  # path -> object
        self.created: list[dict[str, Any]] = []  # pods, as they were asked for
        self.processes: dict[str, subprocess.Popen] = {}

    def create(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["metadata"]["name"]
        asked["metadata"] |= {"uid": name, "resourceVersion": "1"}
        self.objects[f"{path}/{name}"] = asked
        if path.endswith("/pods"):
            self.created.append(json.loads(json.dumps(asked)))
            asked["status"] = {"phase": "Running", "podIP": HERE["status.podIP"]}
            self.processes[f"{path}/{name}"] = self.start(asked)
        return asked

    def start(self, pod: dict[str, Any]) -> subprocess.Popen:
        (container,) = pod["spec"]["containers"]
        command = [*container["command"], *container["args"]]
        assert command[:3] == ONLY_IN_THE_IMAGE
        assert command[3] == "python3"
        facts = {**HERE, "metadata.name": pod["metadata"]["name"]}
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        for variable in container["env"]:
            source = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            env[variable["name"]] = facts[source] if source else variable.get("value", "")
        env["PYSPARK_PYTHON"] = sys.executable
        with (self.logs / f"{pod['metadata']['name']}.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, *command[4:]], env=env, stdout=log, stderr=log, cwd=self.logs
            )

    def listed(self, folder: str) -> list[dict[str, Any]]:
        """The objects of a kind; a pod whose process has ended has failed."""
        for path, process in self.processes.items():
            if process.poll() is not None:
                self.objects[path]["status"]["phase"] = "Failed"
        return [it for path, it in self.objects.items() if path.startswith(f"{folder}/")]

    def delete(self, path: str) -> None:
        self.objects.pop(path, None)
        process = self.processes.pop(path, None)
        if process is not None:
            process.terminate()
            process.wait(timeout=30)

    def stop(self) -> None:
        for path in list(self.processes):
            self.delete(path)


def server(pods: Pods) -> ThreadingHTTPServer:
    """The API on a free port of loopback, served by a thread until `shutdown`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(BrokenPipeError):  # a driver that ends does not wait for its answers
                self.wfile.write(content)

        def body(self) -> dict[str, Any]:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")

        def do_POST(self) -> None:
            self.answer(201, pods.create(urlsplit(self.path).path, self.body()))

        def do_PUT(self) -> None:
            path = urlsplit(self.path).path
            pods.objects[path] = self.body()
            self.answer(200, pods.objects[path])

        def do_PATCH(self) -> None:
            self.body()
            self.answer(200, pods.objects.get(urlsplit(self.path).path, {}))

        def do_DELETE(self) -> None:
            self.body()
            path = urlsplit(self.path).path
            for known in list(pods.objects):
                if known == path or known.startswith(f"{path}/"):
                    pods.delete(known)
            self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if "watch" in parse_qs(address.query):  # Spark lists the pods as well, every second
                self.answer(200, {})
                return
            if address.path in pods.objects:
                self.answer(200, pods.objects[address.path])
                return
            kind = {"pods": "PodList", "configmaps": "ConfigMapList"}.get(
                address.path.rpartition("/")[2]
            )
            if kind is None:
                missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
                self.answer(404, missing)
                return
            listed = {"kind": kind, "apiVersion": "v1", "items": pods.listed(address.path)}
            self.answer(200, {**listed, "metadata": {"resourceVersion": "1"}})

        def log_message(self, *_: Any) -> None:
            pass

    api = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    return api
