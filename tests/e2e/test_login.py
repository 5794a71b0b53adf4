"""Airflow and MLflow on every address of this machine: the login that they demand."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from jobs.local.access import USER
from jobs.local.airflow_client import Airflow, AirflowError
from jobs.local.environment import environment, store_airflow_login, store_mlflow_login
from jobs.local.services import services
from jobs.local.supervisor import Supervisor, is_open
from jobs.settings import ServiceSettings, Settings, load_settings
from tests.ports import reserve_port

pytestmark = pytest.mark.slow
PASSWORD = "kept nowhere: 47%"
STARTED = ("mlflow", "registry", "airflow-api")
# What answers without a login: is it running, which version is it, and the files of its pages.
OPEN_IN_MLFLOW = {
    "GET /health": 200,
    "GET /api/3.0/mlflow/server-info": 200,
    "GET /ajax-api/3.0/mlflow/server-info": 200,
    "GET /static-files/x": 404,
}
OPEN_IN_AIRFLOW = {
    "GET /api/v2/version": 200,
    "GET /api/v2/monitor/health": 200,
    "GET /api/v2/auth/login": 307,
    "GET /api/v2/auth/logout": 307,
    "GET /execution/health": 200,
    "GET /execution/health/ping": 200,
}
MLFLOW_ROUTES = """
import json
from mlflow.server import app as flask
from mlflow.server.fastapi_app import app as fastapi

routes = []
for rule in flask.url_map.iter_rules():
    routes += [(method, rule.rule) for method in rule.methods - {"HEAD", "OPTIONS"}]
for route in fastapi.routes:
    routes += [(method, route.path) for method in getattr(route, "methods", None) or ()]
print(json.dumps(routes))
"""
AIRFLOW_ROUTES = """
import json
from airflow.api_fastapi.core_api.routes.public import authenticated_router, public_router
from airflow.api_fastapi.core_api.routes.ui import ui_router
from airflow.api_fastapi.execution_api.routes import execution_api_router

routes = []
for router in (public_router, ui_router, execution_api_router):
    prefix = "/execution" if router is execution_api_router else ""
    for route in router.routes:
        routes += [(method, prefix + route.path) for method in route.methods]
print(json.dumps(routes))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("EVERGREEN_SERVICES__HOST", "0.0.0.0")
        patch.setenv("EVERGREEN_SERVICES__PASSWORD", PASSWORD)
        for option in ("AIRFLOW_PORT", "MLFLOW_PORT", "REGISTRY_PORT"):
            patch.setenv(f"EVERGREEN_SERVICES__{option}", str(reserve_port()))
        yield load_settings()


def started(settings: Settings) -> Supervisor:
    chosen = [service for service in services(settings) if service.name in STARTED]
    env = environment(settings)
    store_airflow_login(settings)
    store_mlflow_login(settings)
    return Supervisor(chosen, settings.home / "logs", env)


@pytest.fixture(scope="module")
def running(settings) -> Iterator[Supervisor]:
    supervisor = started(settings)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


@pytest.fixture
def airflow(settings, running) -> str:
    return settings.services.address(settings.services.airflow_port)


@pytest.fixture
def mlflow(settings, running) -> str:
    return settings.services.address(settings.services.mlflow_port)


def with_password(settings: Settings, password: str) -> Settings:
    values = settings.services.model_dump() | {"password": password}
    return settings.model_copy(update={"services": ServiceSettings(**values)})


def routes_of(code: str, env: dict[str, str]) -> list[tuple[str, str]]:
    """The routes that a program prints, with an x for every part that varies."""
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    routes = json.loads(ran.stdout.splitlines()[-1])
    return sorted({(method, re.sub(r"[<{].+?[>}]", "x", path)) for method, path in routes})


def answered(address: str, routes: list[tuple[str, str]]) -> dict[str, int]:
    """The routes that do not demand a login, with the status of their response."""
    found = {}
    with httpx.Client(base_url=address, timeout=30) as client:
        for method, path in routes:
            status = client.request(method, path).status_code
            if status != 401:
                found[f"{method} {path}"] = status
    return found


def test_every_route_of_mlflow_demands_the_login(settings, mlflow):
    routes = routes_of(MLFLOW_ROUTES, environment(settings))
    assert {("POST", "/v1/traces"), ("POST", "/graphql")} <= set(routes)
    assert answered(mlflow, [("GET", "/"), ("GET", "/none"), *routes]) == OPEN_IN_MLFLOW


def test_every_route_of_airflow_demands_the_login(settings, airflow):
    routes = routes_of(AIRFLOW_ROUTES, environment(settings))
    assert {("GET", "/ui/config"), ("POST", "/api/v2/pools")} <= set(routes)
    assert answered(airflow, routes) == OPEN_IN_AIRFLOW


def test_mlflow_says_nothing_of_this_home_without_the_login(settings, mlflow):
    public = httpx.get(f"{mlflow}/api/3.0/mlflow/server-info").text
    assert str(settings.home) not in public


def test_the_services_listen_on_other_addresses_than_127_0_0_1(settings, running):
    ports = settings.services.mlflow_port, settings.services.airflow_port
    for port in (*ports, settings.services.registry_port):
        assert is_open(port, "127.0.0.2")


def test_our_own_clients_have_the_login(settings, running):
    with Airflow(settings.services) as airflow:
        airflow.set_pool("spark", 2)
        assert "spark" in {row["name"] for row in airflow.rows("/pools", "pools")}
    assert experiments_seen_by_a_task(environment(settings)) == ["Default"]


def experiments_seen_by_a_task(env: dict[str, str]) -> list[str]:
    """The experiments of the tracking server, as a process with these variables finds them."""
    code = """
import json
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import load_settings

found = Tracker(load_settings()).client.search_experiments()
print(json.dumps([experiment.name for experiment in found]))
"""
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("password", ["kept nowhere: 47", "kept nowhere: 47%25"])
def test_a_wrong_password_is_refused(settings, mlflow, password):
    wrong = with_password(settings, password)
    with Airflow(wrong.services) as client, pytest.raises(AirflowError, match=r"refused the login"):
        client.dags()
    assert httpx.get(mlflow, auth=(USER, password)).status_code == 401


@pytest.mark.parametrize(("name", "status"), [(socket.gethostname(), 200), ("evil.example", 403)])
def test_mlflows_pages_work_under_the_name_of_the_machine_only(settings, mlflow, name, status):
    """A browser names the page whose script sends a request as its origin."""
    headers = {"Host": name, "Origin": f"http://{name}:{settings.services.mlflow_port}"}
    search = f"{mlflow}/ajax-api/2.0/mlflow/experiments/search"
    login = (USER, PASSWORD)
    response = httpx.post(search, json={"max_results": 1}, headers=headers, auth=login)
    assert response.status_code == status


def test_the_password_is_in_one_private_file_and_nowhere_else(settings, running, mlflow):
    """Not in what `ps` shows, nor in a log or a database, also after logins good and bad."""
    test_our_own_clients_have_the_login(settings, running)
    httpx.get(mlflow, auth=("nobody", PASSWORD))
    words = []
    for service in running.running.values():
        words += [process.cmdline() for process in service.members()]
    assert len(words) >= len(STARTED)
    assert PASSWORD not in str(words)
    holders = []
    for file in settings.home.rglob("*"):
        if file.is_file() and PASSWORD.encode() in file.read_bytes():
            holders.append(file)
    assert holders == [settings.home / "airflow" / "passwords.json"]
    for file in (*holders, settings.home / "mlflow" / "basic_auth.db"):
        assert file.stat().st_mode & 0o777 == 0o600, file


def test_a_new_password_replaces_the_old_one_and_ends_its_sessions(settings, running, mlflow):
    old = Airflow(settings.services)
    old.dags()
    running.stop()
    other = with_password(settings, "another password")
    again = started(other)
    try:
        again.start()
        with old, pytest.raises(AirflowError, match="Invalid JWT token"):
            old.dags()
        with Airflow(settings.services) as late, pytest.raises(AirflowError, match="refused"):
            late.dags()
        with Airflow(other.services) as new:
            new.dags()
        assert httpx.get(mlflow, auth=(USER, PASSWORD)).status_code == 401
        assert httpx.get(mlflow, auth=(USER, "another password")).status_code == 200
    finally:
        again.stop()
