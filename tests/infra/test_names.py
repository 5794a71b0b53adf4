"""Every variable, command line and port in infra/ is one that the code knows."""

from __future__ import annotations

import pytest
from known import (
    PORTS,
    fault_of_address,
    fault_of_command,
    fault_of_variable,
    readers,
)
from manifests import everything

from jobs.local.environment import environment
from jobs.settings import load_settings


def test_every_variable_has_a_reader():
    faults = [(place, fault_of_variable(name)) for place, name in everything().variables]
    assert [fault for fault in faults if fault[1]] == []
    named = {name for _, name in everything().variables}
    assert named >= {"EVERGREEN_SETTINGS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"}


def test_every_command_line_can_run():
    faults = [(place, fault_of_command(line)) for place, line in everything().commands]
    assert [fault for fault in faults if fault[1]] == []
    assert len(faults) > 30


def test_every_port_is_the_one_that_is_listened_on():
    faults = [(place, fault_of_address(*where)) for place, *where in everything().addresses]
    assert [fault for fault in faults if fault[1]] == []
    hosts = {host.removeprefix("evergreen-") for _, host, _ in everything().addresses}
    assert hosts >= PORTS.keys()


def test_airflow_and_mlflow_read_what_the_services_are_given(tmp_path, monkeypatch):
    """The variables of `evergreen up` and `evergreen service`, against their own lists."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_SERVICES__PASSWORD", "a long password")
    given = environment(load_settings())
    assert [
        name for name in given if name.startswith("AIRFLOW__") and fault_of_variable(name)
    ] == []
    # Those of the process file, and one that MLflow's login reads by itself.
    ours = {"MLFLOW_DATABASE", "MLFLOW_LOGIN_OPTIONS", "MLFLOW_PORT"}
    named = {name for name in given if name.startswith("MLFLOW_")}
    assert named - readers()["MLFLOW_"] <= ours | {"MLFLOW_BASIC_AUTH_FAIL_CLOSED"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("EVERGREEN_SERVICES__HOTS", "EVERGREEN_SERVICES__HOST"),
        ("EVERGREEN_STORAGE__URI", "EVERGREEN_STORAGE__URL"),
        ("EVERGREEN_REGISTRY_ROT", "EVERGREEN_REGISTRY_ROOT"),
        ("AIRFLOW__CORE__PARALELISM", "AIRFLOW__CORE__PARALLELISM"),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CON", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        ("MLFLOW_TRACKING_USRNAME", "MLFLOW_TRACKING_USERNAME"),
        ("AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"),
        ("PGPASWORD", "PGPASSWORD"),
    ],
)
def test_a_misspelt_variable_is_found(name, message):
    assert f"Did you mean {message}?" in fault_of_variable(name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evergreen service registy", "Did you mean registry?"),
        ("evergreen garbage --delete", "There is no command garbage"),
        ("evergreen gc --kepe 90", "No such option"),
        ("evergreen gc --keep many", "a valid integer"),
        ("evergreen registry upgarde", "Did you mean upgrade?"),
        ("tini -- /entrypoint python3 -m jobs.spark.execute", "no module jobs.spark.execute"),
        ("evergreen airflow job check", "no command line"),
        ("uvicorn --factory embeddings.registry.service:application", "no function application"),
        ("evergren doctor", "Did you mean evergreen?"),
    ],
)
def test_a_wrong_command_line_is_found(line, message):
    assert message in fault_of_command(line.split())


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("mlflow", 5001, "port 5000, not 5001"),
        ("evergreen-registry", 8080, "port 8090, not 8080"),
        ("registri", 8090, "Did you mean registry?"),
    ],
)
def test_a_wrong_port_is_found(host, port, message):
    assert message in fault_of_address(host, port)
