"""Evergreen's services: the lines of infra/Procfile, with their ports, health checks and order.

A service that the settings place elsewhere (the user's own Spark Connect server as `spark.remote`,
or MLflow server as `mlflow.uri`) is not started here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from jobs.local.access import USER
from jobs.local.airflow_client import Airflow
from jobs.local.environment import (
    ROOT,
    environment,
    store_airflow_login,
    store_mlflow_login,
    without_secrets,
)
from jobs.local.single import sole_runner
from jobs.local.supervisor import LOOPBACK, Service, Supervisor, read_procfile
from jobs.pipeline.tracking.runs import VIEW
from jobs.settings import Settings

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
    external = {service.name for service in external_services(settings)}
    ours = []
    for service in read_procfile(ROOT / "infra" / "Procfile", known_services(settings)):
        if service.name not in external:
            started_here = tuple(name for name in service.after if name not in external)
            ours.append(replace(service, after=started_here))
    return ours


def addresses(settings: Settings) -> list[str]:
    """The pages that a user can open, one line per service."""
    pages = {}
    for external in external_services(settings):
        if external.address.startswith("http"):
            pages[external.name] = without_secrets(external.address)
    for service in services(settings):
        if service.health:  # Spark's port has no page, and two of Airflow's services have no port
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
        "spark": port("spark_port") | {"scheme": "sc", "host": LOOPBACK},
        "mlflow": port("mlflow_port") | {"health": "/health"},
        "registry": port("registry_port") | {"health": "/healthz"},
        "airflow-api": port("airflow_port") | {"health": "/api/v2/version"},
        "airflow-dag-processor": {"after": ("airflow-api",)},
        # A task starts as soon as the scheduler does: what it needs must be ready by then.
        "airflow-scheduler": {"after": ("airflow-api", "spark", "mlflow")},
    }


def preparations(settings: Settings) -> dict[str, Callable[[], None]]:
    """What is done just before a service starts, by its name."""

    def create_pool() -> None:
        with Airflow(settings.services) as airflow:
            airflow.set_pool(SPARK_POOL, SPARK_POOL_SLOTS)

    return {
        "mlflow": lambda: store_mlflow_login(settings),
        "airflow-api": lambda: store_airflow_login(settings),
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
