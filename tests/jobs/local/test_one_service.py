"""`evergreen service NAME`: the service that `evergreen up` starts, in this process's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from ports import reserve_port

from jobs.errors import SettingsError
from jobs.local.environment import ROOT, environment
from jobs.local.one_service import service_of
from jobs.local.services import preparations, services
from jobs.settings import MLflowSettings, ServiceSettings, Settings


def with_services(settings: Settings, **options) -> Settings:
    return settings.model_copy(update={"services": ServiceSettings(**options)})


def test_a_service_is_the_one_of_evergreen_up(settings):
    for service in services(settings):
        assert service_of(settings, service.name) == service


def test_an_unknown_service_is_answered_with_the_nearest(settings):
    with pytest.raises(SettingsError, match=r"'registri'.*Did you mean registry\?.*mlflow"):
        service_of(settings, "registri")


def test_a_service_that_is_elsewhere_is_not_started(settings):
    there = settings.model_copy(update={"mlflow": MLflowSettings(uri="http://elsewhere")})
    with pytest.raises(SettingsError, match=r"mlflow is elsewhere: http://elsewhere"):
        service_of(there, "mlflow")


def test_each_stores_its_own_login_alone(settings):
    """Services start one by one: the file of one that runs already stays as it is."""
    locked = with_services(settings, password="a long password")
    environment(locked)  # creates the folders
    users = settings.home / "mlflow" / "basic_auth.db"
    users.write_text("written by MLflow")
    preparations(locked)["airflow-api"]()
    assert users.read_text() == "written by MLflow"
    assert (settings.home / "airflow" / "passwords.json").exists()
    preparations(locked)["mlflow"]()
    assert users.read_text() == ""


def test_others_are_reached_where_the_settings_say(settings):
    here = environment(settings)
    assert here["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8080/execution/"
    apart = {"airflow_address": "http://airflow:81", "mlflow_address": "http://mlflow:82"}
    there = environment(with_services(settings, **apart))
    assert there["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow:81/execution/"
    assert there["EVERGREEN_MLFLOW__URI"] == "http://mlflow:82"
    registry = ServiceSettings(registry_address="http://registry:83")
    assert registry.registry_at == "http://registry:83"


@pytest.mark.parametrize("address", ["airflow:8080", "http://me:secret@airflow", "http://a/b"])
def test_an_address_has_a_scheme_and_neither_path_nor_login(address):
    with pytest.raises(ValueError, match="airflow_address"):
        ServiceSettings(airflow_address=address)


def test_the_process_becomes_the_service(tmp_path):
    """It answers, and ends by the signal of a container as uvicorn does."""
    port = reserve_port()
    env = {**os.environ, "EVERGREEN_HOME": str(tmp_path / "home")}
    env["EVERGREEN_SERVICES__REGISTRY_PORT"] = str(port)
    command = [sys.executable, "-m", "jobs.cli", "service", "registry"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert awaited(f"http://127.0.0.1:{port}/healthz", process) == {
            "status": "ok",
            "embeddings": 0,
        }
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert f"Finished server process [{process.pid}]" in log


def awaited(address: str, process: subprocess.Popen) -> dict:
    """What a service answers once it is up."""
    for _ in range(600):
        assert process.poll() is None, "it has exited"
        try:
            return httpx.get(address, timeout=5).json()
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")
