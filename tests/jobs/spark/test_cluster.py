"""The steps on a Spark cluster: a standalone master and two one-core workers on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pyspark
import pytest
from engagement_lake import DAYS, commit_day, engagement_settings, random_day

from jobs.settings import Settings
from tests.ports import reserve_port

pytestmark = pytest.mark.slow
SPARK_CLASS = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
DEPLOY = "org.apache.spark.deploy"
STEPS = """
import sys
from datetime import date
from jobs import settings
from jobs.spark import session
from jobs.steps import align, embed, fold_in, lookalike, matrix, publish

chosen = settings.Settings.model_validate_json(sys.argv[1])
spark = session.spark_session(chosen)
for day in map(date.fromisoformat, sys.argv[2:]):
    for step in (matrix, embed, align, fold_in, lookalike, publish):
        step.run(spark, chosen, day)
versions = chosen.open_registry().versions(chosen.embedding.name)
print(spark.sparkContext.master, *(version.digest for version in versions))
"""


@pytest.fixture
def cluster(tmp_path):
    """The master's address."""
    port = reserve_port()
    address = f"spark://127.0.0.1:{port}"
    pages = ["--host", "127.0.0.1", "--webui-port", "0"]
    worker = [f"{DEPLOY}.worker.Worker", *pages, "--cores", "1", "--memory", "1g"]
    log = tmp_path / "cluster.log"
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    with log.open("w") as stream:
        commands = [[f"{DEPLOY}.master.Master", *pages, "--port", str(port)]]
        commands += [
            [*worker, "--work-dir", str(tmp_path / f"work-{n}"), address] for n in range(2)
        ]
        processes = [
            subprocess.Popen([SPARK_CLASS, *command], env=environment, stdout=stream, stderr=stream)
            for command in commands
        ]
        deadline = time.monotonic() + 60
        while log.read_text().count("Registering worker") < 2 and time.monotonic() < deadline:
            time.sleep(0.3)
        try:
            assert log.read_text().count("Registering worker") == 2, log.read_text()[-2000:]
            yield address
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def versions_by(settings: Settings) -> tuple[str, list[str]]:
    """The master that was used, and the digest of each day's version."""
    for seed, day in enumerate(DAYS):
        commit_day(settings, day, random_day(seed))
    command = [sys.executable, "-c", STEPS, settings.model_dump_json(), *map(str, DAYS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    master, *digests = done.stdout.split()
    return master, digests


@pytest.mark.parametrize("method", ["svd", "als"])
def test_a_cluster_publishes_the_versions_that_one_machine_does(cluster, tmp_path, method):
    """The same bytes, with the barrier job's tasks in two executors that meet in the lake."""
    found = {}
    for master in ("local[2]", cluster):
        (tmp_path / master[:5]).mkdir()
        settings = engagement_settings(tmp_path / master[:5])
        spark = settings.spark.model_copy(
            update={"master": master, "conf": {"spark.executor.memory": "512m"}}
        )
        embedding = settings.embedding.model_copy(update={"method": method})
        found[master] = versions_by(
            settings.model_copy(update={"spark": spark, "embedding": embedding})
        )
    assert [master for master, _ in found.values()] == ["local[2]", cluster]
    assert found[cluster][1] == found["local[2]"][1]
    assert len(found[cluster][1]) == len(DAYS)
