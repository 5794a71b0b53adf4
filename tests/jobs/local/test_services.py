"""What ties the services to one home."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from jobs.local.services import ROOT, environment, home_secrets
from jobs.settings import ServiceSettings


def test_every_home_has_secrets_of_its_own_and_keeps_them(tmp_path):
    first, second = home_secrets(tmp_path / "a"), home_secrets(tmp_path / "b")
    assert first == home_secrets(tmp_path / "a")
    assert not set(first.values()) & set(second.values())


def test_only_the_owner_reads_the_secrets(tmp_path):
    home_secrets(tmp_path)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_closed_log_tells_airflow_its_last_day_and_a_growing_one_does_not(settings):
    """Without it, Airflow would run yesterday by itself as soon as it starts."""
    closed = settings.model_copy(update={"services": ServiceSettings(live=False)})
    assert environment(closed)["EVERGREEN_LAST_DAY"] == "2022-05-06"
    assert "EVERGREEN_LAST_DAY" not in environment(settings)


def test_two_homes_share_no_port_path_or_token(settings, tmp_path):
    """Whatever differs between two homes differs in every variable that names a place."""
    other = settings.model_copy(
        update={
            "home": tmp_path / "other",
            "services": ServiceSettings(**{f"{n}_port": 9000 + i for i, n in enumerate(NAMES)}),
        }
    )
    ours, theirs = environment(settings), environment(other)
    places = [
        name
        for name, value in ours.items()
        if str(settings.home) in value or value in {"8080", "5000", "8090"}
    ]
    assert {
        "EVERGREEN_HOME",
        "AIRFLOW_HOME",
        "MLFLOW_PORT",
        "REGISTRY_PORT",
        "AIRFLOW_PORT",
    } <= set(places)
    assert all(
        ours[name] != theirs[name]
        for name in [*places, "AIRFLOW_CONN_SPARK", "EVERGREEN_SPARK__REMOTE"]
    )


NAMES = ("airflow", "mlflow", "registry", "spark")


def test_the_settings_that_the_services_get_are_those_of_the_caller(settings, monkeypatch):
    """A task that loads its settings from these variables finds the same home, its tracking server and its Spark."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    from jobs.settings import load_settings

    loaded = load_settings()
    assert loaded.home == settings.home
    assert loaded.mlflow_uri == f"http://127.0.0.1:{settings.services.mlflow_port}"
    assert loaded.spark.remote.startswith(f"sc://localhost:{settings.services.spark_port}/;token=")


@pytest.fixture(scope="module")
def preloaded() -> dict:
    """What a process is like that has imported what the scheduler imports for its tasks."""
    code = """
import airflow_local_settings, json, multiprocessing, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
pid = os.fork()
if pid == 0:
    import numpy as np, torch
    with ThreadPoolExecutor(2) as pool:  # both thread pools of the maths work in a fork
        sums = list(pool.map(lambda n: float((np.eye(300) @ np.eye(300)).sum()) + float((torch.eye(300) @ torch.eye(300)).sum()), range(4)))
    os._exit(0 if sums == [600.0] * 4 else 1)
print(json.dumps({"threads": [t.name for t in threading.enumerate()], "modules": sorted(sys.modules), "fork": os.waitpid(pid, 0)[1]}))
"""  # noqa: E501
    env = os.environ | {
        "EVERGREEN_PRELOAD": "1",
        "PYTHONPATH": str(ROOT / "infra" / "airflow"),
        "GIT_PYTHON_REFRESH": "quiet",
    }
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(told.stdout.splitlines()[-1])


def test_what_is_imported_before_the_fork_starts_no_thread(preloaded):
    assert preloaded["threads"] == ["MainThread"]


def test_a_fork_of_it_can_still_do_maths(preloaded):
    assert preloaded["fork"] == 0


def test_tasks_find_the_slow_imports_done(preloaded):
    assert {"mlflow", "torch", "great_expectations", "pyspark.sql.connect.session", "grpc"} <= set(
        preloaded["modules"]
    )
