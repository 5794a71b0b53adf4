"""A standalone Spark cluster on loopback: a master and workers of one core each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyspark

from tests.ports import reserve_port

SPARK_CLASS = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
DEPLOY = "org.apache.spark.deploy"
START_S = 90.0


@dataclass(frozen=True)
class Cluster:
    """address: of the master. workers: their processes."""

    address: str
    workers: list[psutil.Process]

    def executors(self) -> list[psutil.Process]:
        """The executors that run now: the children of the workers."""
        found = []
        for worker in self.workers:
            found.extend(worker.children())
        return found


@contextmanager
def started_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A cluster for as long as the block runs; its files are below `folder`."""
    port = reserve_port()
    address = f"spark://127.0.0.1:{port}"
    pages = ["--host", "127.0.0.1", "--webui-port", "0"]
    worker = [f"{DEPLOY}.worker.Worker", *pages, "--cores", "1", "--memory", "1g"]
    commands = [[f"{DEPLOY}.master.Master", *pages, "--port", str(port)]]
    for number in range(workers):
        commands.append([*worker, "--work-dir", str(folder / f"work-{number}"), address])
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    log = folder / "cluster.log"
    with log.open("w") as stream:
        processes = []
        for command in commands:
            processes.append(
                subprocess.Popen(
                    [SPARK_CLASS, *command], env=environment, stdout=stream, stderr=stream
                )
            )
        try:
            deadline = time.monotonic() + START_S
            while log.read_text().count("Registering worker") < workers:
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.3)
            yield Cluster(address, [psutil.Process(process.pid) for process in processes[1:]])
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()
