"""Shared fixtures: one real Spark for the whole suite, and settings with a fresh home."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from jobs.local.environment import SMALL_JVM

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
# Importing Airflow creates folders there; services have the one of their home.
os.environ.setdefault("AIRFLOW_HOME", f"{tempfile.gettempdir()}/evergreen-airflow-{os.getuid()}")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("SPARK_SUBMIT_OPTS", SMALL_JVM)  # every Spark, as that of the services

# A shell's background job ignores SIGINT, and so would every service that a test starts: each would
# be stopped the slow way.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# It says goodbye when Python exits, to handlers whose streams are closed by then: the last line of
# a run is to be pytest's summary.
logging.getLogger("py4j.clientserver").setLevel(logging.WARNING)

# The suite is deterministic; `make test-all` tries more examples, others each time.
hypothesis_settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis_settings.register_profile("search", max_examples=1000, deadline=None)
hypothesis_settings.load_profile("steady")

KUAIRAND = Path(__file__).parent.parent / "data" / "kuairand-pure"


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without garbage collection, and leave what was imported out of every later one.

    Nearly all of it stays until the end, and looking at it again and again takes a third of the
    time of collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def spark():
    """A classic local session, as `evergreen run` uses it."""
    from jobs.settings import Settings, SparkSettings
    from jobs.sources.kuairand import KuaiRandSettings
    from jobs.spark.session import spark_session

    source = KuaiRandSettings(kind="kuairand", path=KUAIRAND)
    session = spark_session(
        Settings(source=source, spark=SparkSettings(master="local[2]", driver_memory="1g"))
    )
    os.register_at_fork(after_in_child=leave_spark_to_the_parent)
    yield session
    session.stop()


def leave_spark_to_the_parent() -> None:
    """Keep a forked process off the parent's connection to Spark, which both would read from.

    MLflow asks every session it finds for an address, and a session that is collected closes its
    objects over the connection.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gc.freeze()
    SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None


@pytest.fixture(scope="session")
def store_servers(tmp_path_factory):
    """kind -> a running S3 server of that kind, started at its first use, for all tests."""
    from tests.object_store import Server

    servers = {}

    def running(kind):
        if kind not in servers:
            servers[kind] = Server(kind, tmp_path_factory.mktemp("stores") / kind)
            servers[kind].start()
        return servers[kind]

    yield running
    for server in servers.values():
        server.kill()


@pytest.fixture
def settings(tmp_path):
    """KuaiRand settings below a fresh home."""
    from jobs.settings import Settings
    from jobs.sources.kuairand import KuaiRandSettings

    return Settings(home=tmp_path / "home", source=KuaiRandSettings(kind="kuairand", path=KUAIRAND))
