"""A home of its own on a small log, with all services running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.local.airflow_client import Airflow
from jobs.local.demo import await_dags
from jobs.local.services import running_services
from jobs.local.supervisor import Supervisor
from jobs.settings import Settings, load_settings
from tests.ports import reserve_port
from tests.small_logs import write_kuairand

SETTINGS = """
home = "home"
[source]
kind = "kuairand"
path = "log"
[spark]
master = "local[2]"
driver_memory = "1g"
conf = {{ "spark.ui.enabled" = "true", "spark.ui.port" = "0" }}
[matrix]
min_engagements = 1
[embedding]
name = "author"
dim = 2
[services]
live = false
airflow_port = {}
mlflow_port = {}
registry_port = {}
spark_port = {}
"""


@contextmanager
def running_home(folder: Path, more: str = "") -> Iterator[tuple[Settings, Airflow, Supervisor]]:
    """Services on the small log with its history; the DAGs are parsed. more: further settings."""
    write_kuairand(folder / "log", history=True)
    file = folder / "small.toml"
    ports = [reserve_port() for _ in range(4)]
    file.write_text(SETTINGS.format(*ports) + more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_SETTINGS", str(file))
        settings = load_settings()
        airflow = Airflow(settings.services)
        with airflow, running_services(settings) as supervisor:
            await_dags(airflow, supervisor)
            yield settings, airflow, supervisor
