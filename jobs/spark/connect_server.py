"""The Spark Connect server that all steps share: `python -m jobs.spark.connect_server`.

Spark's own SparkConnectServer always isolates sessions: each has its own Python workers, which
import PyTorch and numba again and stay for a minute. Here sessions share their workers, so that a
barrier job starts in 0.2 s instead of 2 s (docs/decisions/0013). The workers keep the code that
they have imported: after a change to it, restart the services.
"""

from __future__ import annotations

import signal
import sys
import threading

from jobs import tracing
from jobs.settings import load_settings
from jobs.spark.job_spans import finished_jobs
from jobs.spark.session import spark_session

PLUGIN = "org.apache.spark.sql.connect.SparkConnectPlugin"


def main() -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Spark itself reads the token from SPARK_CONNECT_AUTHENTICATE_TOKEN.
    """
    settings = load_settings()
    # spark.remote is the address of this very server.
    local = settings.spark.model_copy(update={"remote": ""})
    here = settings.model_copy(update={"spark": local})
    port = {"spark.connect.grpc.binding.port": str(settings.services.spark_port)}
    session = spark_session(here, server_conf(settings.spark.conf) | port)
    stopped = threading.Event()
    # After the session has started, because starting it installs PySpark's own handler.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    # The server runs in the JVM, which may die while this process lives on.
    jvm = session.sparkContext._gateway.proc  # type: ignore[union-attr]
    finished = finished_jobs(session) if tracing.enabled() else None
    while not stopped.wait(1.0):
        if jvm.poll() is not None:
            print(f"The JVM ended by itself with exit code {jvm.returncode}.", file=sys.stderr)
            return 1
        if finished:
            finished.report()
    session.stop()
    return 0


def server_conf(conf: dict[str, str]) -> dict[str, str]:
    """The options of a Connect server. conf: the user's, whose plugins are kept beside our own."""
    plugins = [PLUGIN]
    if conf.get("spark.plugins"):
        plugins.append(conf["spark.plugins"])
    return {
        "spark.plugins": ",".join(plugins),
        "spark.sql.artifact.isolation.enabled": "false",
        "spark.connect.grpc.binding.address": "127.0.0.1",
    }


if __name__ == "__main__":
    sys.exit(main())
