"""Evergreen's services: the lines of infra/Procfile, with their ports, health checks and order.

A service that the settings place elsewhere (the user's own Spark Connect server as `spark.remote`,
or MLflow server as `mlflow.uri`) is not started here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import CONFLICT
from urllib.parse import urlsplit

import httpx

from jobs.local.access import USER
from jobs.local.airflow_client import Airflow
from jobs.local.databases import await_server, create_missing
from jobs.local.environment import (
    ROOT,
    environment,
    store_airflow_login,
    store_mlflow_login,
    without_secrets,
)
from jobs.local.single import sole_runner
from jobs.local.supervisor import LOOPBACK, Service, Supervisor, is_open, read_procfile
from jobs.pipeline.tracking.runs import VIEW
from jobs.settings import Settings, StorageSettings

DATABASE = "database"  # the server below home
STORAGE = "storage"  # our own S3 server
SPARK_POOL = "spark"  # as the tasks in dags/common.py name it
SPARK_POOL_SLOTS = 2  # steps that may use the Spark server at once


@dataclass(frozen=True)
class External:
    """A service that the settings place elsewhere. address: a URI, or "off" for none at all."""

    name: str
    address: str
    option: str  # the setting that names it

    @property
    def is_off(self) -> bool:
        return self.address == "off"

    def __str__(self) -> str:
        return f"{without_secrets(self.address)} ({self.option})"


def external_services(settings: Settings) -> list[External]:
    """The services of the process file that the settings place elsewhere: not started here."""
    candidates = [
        External("spark", settings.spark.remote, "spark.remote"),
        External("mlflow", settings.mlflow.uri, "mlflow.uri"),
    ]
    return [external for external in candidates if external.address]


def services(settings: Settings) -> list[Service]:
    """The services to start here, in the order of the process file."""
    left_out = {service.name for service in external_services(settings)}
    if not settings.database.is_local:
        left_out.add(DATABASE)
    if not settings.storage.serve:
        left_out.add(STORAGE)
    ours = []
    for service in read_procfile(ROOT / "infra" / "Procfile", known_services(settings)):
        if service.name not in left_out:
            started_here = tuple(name for name in service.after if name not in left_out)
            ours.append(replace(service, after=started_here))
    return ours


def addresses(settings: Settings) -> list[str]:
    """The pages that a user can open, one line per service."""
    pages = {}
    for external in external_services(settings):
        if external.address.startswith("http"):
            pages[external.name] = without_secrets(external.address)
    for service in services(settings):
        # Spark's port and that of a bucket have no page, and two of Airflow's services no port.
        if service.health and service.name != STORAGE:
            pages[service.name] = service.address
    if "mlflow" in pages:
        pages["mlflow"] += f"/#/experiments{VIEW}"
    return [f"{name:<12} {page}" for name, page in sorted(pages.items())]


def known_services(settings: Settings) -> dict[str, dict]:
    """Ports, health checks and order of the services, by their names in the process file."""

    def port(option: str) -> dict:
        return {
            "port": getattr(settings.services, option),
            "host": settings.services.local_host,
            "port_option": f"EVERGREEN_SERVICES__{option.upper()}, or {option} under [services]",
        }

    return {
        DATABASE: port("database_port") | {"scheme": "postgresql", "host": LOOPBACK},
        STORAGE: {
            "port": settings.storage.serve_port,
            "health": "/healthz",
            "port_option": "EVERGREEN_STORAGE__ENDPOINT, or endpoint under [storage]",
        },
        "spark": port("spark_port") | {"scheme": "sc", "host": LOOPBACK},
        "registry": port("registry_port") | {"health": "/healthz", "after": (DATABASE, STORAGE)},
        "mlflow": port("mlflow_port") | {"health": "/health", "after": (DATABASE,)},
        "airflow-api": port("airflow_port") | {"health": "/api/v2/version", "after": (DATABASE,)},
        "airflow-dag-processor": {"after": ("airflow-api",)},
        # A task starts as soon as the scheduler does: what it needs must be ready by then.
        "airflow-scheduler": {"after": ("airflow-api", STORAGE, "spark", "mlflow")},
    }


def create_bucket(storage: StorageSettings) -> None:
    """Create the bucket in our own server, unless it exists."""
    bucket = urlsplit(storage.url).netloc
    answer = httpx.put(f"{storage.endpoint}/{bucket}", timeout=30)
    if answer.status_code != CONFLICT:
        answer.raise_for_status()


def preparations(settings: Settings) -> dict[str, Callable[[], None]]:
    """What is done just before a service starts, by its name."""

    def create_databases() -> None:
        if settings.database.url:
            await_server(settings)
            create_missing(settings)

    def for_registry() -> None:
        create_databases()
        if settings.storage.serve:
            create_bucket(settings.storage)

    def for_mlflow() -> None:
        create_databases()
        store_mlflow_login(settings)

    def for_airflow() -> None:
        create_databases()
        store_airflow_login(settings)

    def create_pool() -> None:
        with Airflow(settings.services) as airflow:
            airflow.set_pool(SPARK_POOL, SPARK_POOL_SLOTS)

    return {
        "registry": for_registry,
        "mlflow": for_mlflow,
        "airflow-api": for_airflow,
        # Tasks start with the scheduler, and one that names a missing pool is never scheduled.
        "airflow-scheduler": create_pool,
    }


@contextmanager
def running_services(
    settings: Settings, report: Callable[[str], None] = print
) -> Iterator[Supervisor]:
    """Run all services while the block runs; they are ready when it begins.

    Raises ServiceError, before anything starts, where services of this home run already.
    """
    with sole_runner(settings.home), started_services(settings, report) as supervisor:
        yield supervisor


@contextmanager
def database_server(settings: Settings) -> Iterator[None]:
    """The server below home while the block runs, where the settings name it and it does not run.

    For a command that reads the databases while the services may be stopped.
    """
    if not settings.database.is_local or is_open(settings.services.database_port):
        yield
        return
    only = [service for service in services(settings) if service.name == DATABASE]
    supervisor = Supervisor(only, settings.home / "logs", environment(settings))
    try:
        supervisor.start(report=lambda line: None)
        await_server(settings)
        yield
    finally:
        supervisor.stop()


@contextmanager
def started_services(settings: Settings, report: Callable[[str], None]) -> Iterator[Supervisor]:
    """The services of a home that no other process runs."""
    env = environment(settings)  # raises SettingsError where a login is missing
    supervisor = Supervisor(services(settings), settings.home / "logs", env)
    try:
        supervisor.start(report, preparations(settings))
        for external in external_services(settings):
            report(f"{external.name:<22} {external}")
        if settings.services.password:
            report(f"{'login':<22} {USER}, with services.password")
        yield supervisor
    finally:
        supervisor.stop()
