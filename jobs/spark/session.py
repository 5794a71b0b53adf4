"""The Spark session of a step run by hand; under Airflow the connection hands one over."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    SessionType = SparkSession
else:
    SessionType = object


def spark_session(settings: Settings, conf: Mapping[str, str] | None = None) -> SparkSession:
    """A session on the configured master, with further options; or on the server that `spark.remote` names."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("evergreen")
    if settings.spark.remote:
        builder = builder.remote(settings.spark.remote)
    else:
        builder = builder.master(settings.spark.master).config(
            "spark.driver.memory", settings.spark.driver_memory
        )
        for key, value in {**classic_conf(settings), **(conf or {})}.items():
            builder = builder.config(key, value)
    return builder.getOrCreate()


def classic_conf(settings: Settings) -> dict[str, str]:
    """What a Spark driver of ours is started with, here or as a Connect server: quiet, on loopback, UTC."""
    check = "spark.scheduler.barrier.maxConcurrentTasksCheck"
    patience = {
        f"{check}.maxFailures": "1",
        f"{check}.interval": "1s",
    }  # no core will come by waiting
    return {
        **(patience if settings.spark.master.startswith("local") else {}),
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.spark.partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.python.worker.reuse": "true",
        **settings.spark.conf,
    }


class LazySession(SessionType):
    """Stands for a session that is made when something is first asked of it: a step that needs no Spark starts none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getattr__(self, name: str):
        return getattr(spark_session(self._settings), name)
