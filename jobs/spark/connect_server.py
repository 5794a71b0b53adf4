"""The Spark Connect server that every step shares: `python -m jobs.spark.connect_server`, as infra/Procfile starts it.

Spark's own SparkConnectServer insists on isolating sessions: each has Python workers of its own, which import PyTorch
and numba anew and linger for a minute. Here the sessions share them, so a barrier job begins in 0.2 s instead of 2.
They also keep the code that they have imported: after a change to it, the services are to be started again.
"""

from __future__ import annotations

import signal
import sys
import threading

from jobs.settings import load_settings
from jobs.spark.session import spark_session

PLUGIN = "org.apache.spark.sql.connect.SparkConnectPlugin"


def main() -> int:
    """Serve until told to stop. The token is SPARK_CONNECT_AUTHENTICATE_TOKEN's, which Spark reads itself."""
    settings = load_settings()
    here = settings.model_copy(update={"spark": settings.spark.model_copy(update={"remote": ""})})
    port = {"spark.connect.grpc.binding.port": str(settings.services.spark_port)}
    session = spark_session(here, plugged(settings.spark.conf) | port)
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # only now: PySpark puts a handler of its own
        signal.signal(number, lambda *_: told.set())
    jvm = session.sparkContext._gateway.proc  # type: ignore[union-attr]
    while not told.wait(1.0):
        if jvm.poll() is not None:
            print(f"The JVM ended by itself, with exit code {jvm.returncode}.", file=sys.stderr)
            return 1
    session.stop()
    return 0


def plugged(conf: dict[str, str]) -> dict[str, str]:
    """The options of a Connect server, with whatever plugins the settings name beside its own."""
    plugins = [PLUGIN, *filter(None, [conf.get("spark.plugins")])]
    return {
        "spark.plugins": ",".join(plugins),
        "spark.sql.artifact.isolation.enabled": "false",
        "spark.connect.grpc.binding.address": "127.0.0.1",
    }


if __name__ == "__main__":
    sys.exit(main())
