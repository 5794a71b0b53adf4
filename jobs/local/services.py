"""Evergreen's services: what each line of infra/Procfile needs to know, and the variables that tie them to one home.

Two homes with ports of their own run side by side. Tokens are drawn once a home and kept readable by its owner only.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.local.airflow_client import Airflow
from jobs.local.supervisor import Service, Supervisor, read_procfile
from jobs.settings import DEFAULT_FILE, Settings
from jobs.sources import open_source

ROOT = Path(__file__).parents[2]
SMALL_JVM = (
    "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # many short queries, few cores: a quarter less CPU
)
SPARK_POOL_SLOTS = 2  # steps that may use the Spark server at once


def services(settings: Settings) -> list[Service]:
    """The services of the process file with the ports that the settings give them."""
    ports = settings.services

    def port(option: str) -> dict:
        return {
            "port": getattr(ports, option),
            "port_option": f"EVERGREEN_SERVICES__{option.upper()}, or {option} under [services]",
        }

    known = {
        "spark": port("spark_port"),
        "mlflow": port("mlflow_port") | {"health": "/health"},
        "registry": port("registry_port") | {"health": "/health"},
        "airflow-api": port("airflow_port") | {"health": "/api/v2/version"},
        "airflow-dag-processor": {"after": ("airflow-api",)},
        "airflow-scheduler": {"after": ("airflow-api", "spark", "mlflow")},
    }
    return read_procfile(ROOT / "infra" / "Procfile", known)


@contextmanager
def running_services(
    settings: Settings, tell: Callable[[str], None] = print
) -> Iterator[Supervisor]:
    """All services, healthy, for as long as the block runs."""
    supervisor = Supervisor(services(settings), settings.home / "logs", environment(settings))
    airflow = Airflow(settings.services.airflow_port)
    try:
        supervisor.start(
            tell, before={"airflow-scheduler": lambda: airflow.set_pool("spark", SPARK_POOL_SLOTS)}
        )
        yield supervisor
    finally:
        supervisor.stop()


def environment(settings: Settings) -> dict[str, str]:
    """The variables of every service and task: this process's own, and over them what ties them to this home."""
    home, ports, keys = settings.home, settings.services, home_secrets(settings.home)
    for folder in ("airflow", "mlflow", "registry"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    spark_url = f"sc://localhost:{ports.spark_port}"
    airflow_url = f"http://127.0.0.1:{ports.airflow_port}"
    spark_connection = {
        "conn_type": "spark_connect",
        "host": "sc://localhost",
        "port": ports.spark_port,
        "password": keys["spark"],
    }
    last_day = {} if ports.live else {"EVERGREEN_LAST_DAY": str(open_source(settings).span()[1])}
    return os.environ | last_day | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "infra" / "airflow"), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # evergreen
        "EVERGREEN_SETTINGS": str(Path(os.environ.get("EVERGREEN_SETTINGS") or DEFAULT_FILE).resolve()),
        "EVERGREEN_HOME": str(home),
        "EVERGREEN_MLFLOW__URI": f"http://127.0.0.1:{ports.mlflow_port}",
        "EVERGREEN_SPARK__REMOTE": f"{spark_url}/;token={keys['spark']}",
        # spark
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SUBMIT_OPTS": os.environ.get("SPARK_SUBMIT_OPTS", SMALL_JVM),
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": keys["spark"],
        "PYSPARK_PYTHON": sys.executable,
        # mlflow, registry
        "MLFLOW_PORT": str(ports.mlflow_port),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "REGISTRY_PORT": str(ports.registry_port),
        "EVERGREEN_REGISTRY_ROOT": str(settings.registry_root),
        "EVERGREEN_REGISTRY_CATALOG_URL": settings.registry_url,
        "EVERGREEN_REGISTRY_TOKEN": settings.registry.token or keys["registry"],
        "GX_ANALYTICS_ENABLED": "false",
        # airflow
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW_PORT": str(ports.airflow_port),
        "AIRFLOW_CONN_SPARK": json.dumps(spark_connection),
        "AIRFLOW__API__BASE_URL": airflow_url,
        "AIRFLOW__API__SECRET_KEY": keys["airflow"],
        "AIRFLOW__API_AUTH__JWT_SECRET": keys["airflow"],
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow_url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",  # everything listens on loopback only
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # the files are read when it starts; then seldom
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow' / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "tasks"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # the default of 5 keeps a worker waiting after a short task
    }  # fmt: skip


def home_secrets(home: Path) -> dict[str, str]:
    """The tokens of a home, drawn when it is first used; the file is its owner's alone."""
    file = home / "secrets.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        keys = {name: secrets.token_urlsafe(32) for name in ("spark", "registry", "airflow")}
        keys["fernet"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        with open(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as stream:
            json.dump(keys, stream)
    return json.loads(file.read_text())
