"""The Spark Connect server that the steps share."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
from connect_server import serving

from jobs.settings import Settings, SparkSettings

WORKERS = """
import os, sys
import pyarrow as pa
from jobs import settings
from jobs.spark import session

def worker(batches):
    for _ in batches:
        pass
    yield pa.record_batch({"pid": pa.array([os.getpid()])})

spark = session.spark_session(settings.Settings.model_validate_json(sys.argv[1]))
rows = spark.range(0, 2, 1, 2).mapInArrow(worker, "pid long", barrier=True).collect()
print(*sorted(row.pid for row in rows))
"""


def ask(settings: Settings, remote: str) -> subprocess.CompletedProcess[str]:
    """A process with its own session; prints the Python workers that serve it."""
    there = settings.model_copy(update={"spark": SparkSettings(remote=remote)})
    command = [sys.executable, "-c", WORKERS, there.model_dump_json()]
    environment = {
        key: value for key, value in os.environ.items() if key != "SPARK_CONNECT_AUTHENTICATE_TOKEN"
    }
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_sessions_share_python_workers_and_their_imports(settings, connect):
    first, second = (ask(settings, connect) for _ in range(2))
    assert len(first.stdout.split()) == 2, first.stderr[-2000:]
    assert first.stdout == second.stdout


def test_a_session_without_the_token_is_refused(settings, connect):
    stranger = ask(settings, connect.replace("for-a-test", "guessed"))
    assert stranger.returncode != 0
    assert "token" in stranger.stderr.lower()


def test_a_server_whose_jvm_dies_ends_too(tmp_path):
    """The supervisor watches this process, so it would not notice otherwise."""
    with serving(tmp_path) as (server, _):
        (jvm,) = [
            child for child in psutil.Process(server.pid).children() if "java" in child.name()
        ]
        jvm.kill()
        assert server.wait(30) == 1
