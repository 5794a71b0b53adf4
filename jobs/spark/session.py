"""The Spark session of a step that runs outside Airflow, whose connection provides one."""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.settings import Settings

# Of HotSpot, ten times the defaults. Most of what a step runs, above all Spark's planning, runs too
# rarely to repay the optimising compiler, which took half of the CPU time of a small day. A large
# one is not slower for it (docs/decisions/0007).
PATIENT_COMPILER = (
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def spark_session(settings: Settings, conf: Mapping[str, str] | None = None) -> SparkSession:
    """The session on the Connect server of `spark.remote`, or a classic one on `spark.master`.

    conf: further options of a classic session. Every call in a process returns the same session.
    """
    # Workers must run this environment, and not the first python3 on the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if locale.getencoding().lower() != "utf-8":
        # The JVM reads the names of files in the locale's encoding: under LC_ALL=C, as cron and
        # containers have it, it finds no file whose name is not ASCII. Python does.
        os.environ["LC_ALL"] = "C.UTF-8"
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("evergreen")
    if settings.spark.remote:
        return builder.remote(settings.spark.remote).getOrCreate()
    builder = builder.master(settings.spark.master)
    builder = builder.config("spark.driver.memory", settings.spark.driver_memory)
    for key, value in {**classic_conf(settings), **(conf or {})}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def classic_conf(settings: Settings) -> dict[str, str]:
    """Options of a driver that Evergreen starts, for a session or a Connect server.

    It listens on loopback only, counts time in UTC, shows neither a page nor a progress bar, and
    optimises only what runs often.
    """
    conf = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": PATIENT_COMPILER,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.spark.partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.python.worker.reuse": "true",
        "spark.python.daemon.module": "jobs.spark.worker_daemon",
    }
    if settings.spark.master.startswith("local"):
        # A local master never gains cores: a barrier job that needs too many should fail at once.
        check = "spark.scheduler.barrier.maxConcurrentTasksCheck"
        conf[f"{check}.maxFailures"] = "1"
        conf[f"{check}.interval"] = "1s"
    return conf | settings.spark.conf
