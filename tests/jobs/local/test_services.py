"""The services of one home: their variables, which of them run here, and what tasks inherit."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import make_url

from jobs.errors import SettingsError
from jobs.local.environment import (
    ROOT,
    SecretsError,
    environment,
    home_secrets,
    spark_connection,
    without_secrets,
)
from jobs.local.services import addresses, external_services, known_services, services
from jobs.local.supervisor import read_procfile
from jobs.settings import (
    DatabaseSettings,
    MLflowSettings,
    RegistrySettings,
    ServiceSettings,
    Settings,
    SparkSettings,
    load_settings,
)

PORTS = ("airflow_port", "mlflow_port", "registry_port", "spark_port")
SPARK = "sc://spark.example.org:15002/;token=their%20token;use_ssl=true"
MLFLOW = "https://mlflow.example.org"


@pytest.fixture(autouse=True)
def no_variables_of_the_user(monkeypatch):
    """Removes the variables that would override what the tests set."""
    for name in list(os.environ):
        if name.startswith(("EVERGREEN_", "AIRFLOW_", "AIRFLOW__", "SPARK_", "MLFLOW_")):
            monkeypatch.delenv(name)


def with_spark(settings: Settings, remote: str = SPARK) -> Settings:
    return settings.model_copy(update={"spark": SparkSettings(remote=remote)})


def with_mlflow(settings: Settings, uri: str = MLFLOW) -> Settings:
    return settings.model_copy(update={"mlflow": MLflowSettings(uri=uri)})


def reloaded(monkeypatch, env: dict[str, str]) -> Settings:
    """The settings that a task loads from its variables."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return load_settings()


# Secrets


def test_every_home_has_its_own_secrets_and_keeps_them(tmp_path):
    first = home_secrets(tmp_path / "a")
    second = home_secrets(tmp_path / "b")
    assert first == home_secrets(tmp_path / "a")
    assert not set(first.values()) & set(second.values())


def test_only_the_owner_can_read_the_secrets(tmp_path):
    home_secrets(tmp_path)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


EIGHT_AT_ONCE = """
import json, multiprocessing, os, sys, threading
from pathlib import Path
from jobs.local.environment import home_secrets

fork = multiprocessing.get_context("fork")
n, barrier = 8, fork.Barrier(8)

def first_use(home):
    barrier.wait()
    return home_secrets(home)

def modes_until(done, home, seen):
    while not done.is_set():
        for file in home.glob(".secrets*"), home.glob("secrets*"):
            for path in file:
                try:
                    seen.add(path.stat().st_mode & 0o777)
                except FileNotFoundError:
                    pass

os.umask(0)
rounds = []
with fork.Pool(n) as pool:
    for number in range(25):
        home = Path(sys.argv[1]) / str(number)
        seen, done = set(), threading.Event()
        watcher = threading.Thread(target=modes_until, args=(done, home, seen))
        watcher.start()
        keys = pool.map(first_use, [home] * n, chunksize=1)
        done.set()
        watcher.join()
        different = len({json.dumps(key, sort_keys=True) for key in keys})
        rounds.append([different, sorted(seen), sorted(os.listdir(home))])
print(json.dumps(rounds))
"""


def test_processes_that_start_at_once_draw_the_same_secrets(tmp_path):
    """They are private at every moment, also with an umask that hides nothing."""
    command = [sys.executable, "-c", EIGHT_AT_ONCE, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ran.returncode == 0, ran.stderr
    for different, modes, files in json.loads(ran.stdout):
        assert different == 1
        assert set(modes) <= {0o600}
        assert files == ["secrets.json"]


def test_threads_that_start_at_once_draw_the_same_secrets(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(home_secrets, [tmp_path / "home"] * 8))
    assert drawn == [home_secrets(tmp_path / "home")] * 8


def test_a_copied_secrets_file_is_private_again(tmp_path):
    home_secrets(tmp_path)
    (tmp_path / "secrets.json").chmod(0o644)
    home_secrets(tmp_path)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b'{"spark": "abc', "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[1]", r"lacks the secrets \['spark', 'registry'"),
        (b'{"spark": "a", "registry": "b", "airflow": "c"}', r"lacks the secrets \['fernet'\]"),
        (b'{"spark": "a", "registry": "", "airflow": "c", "fernet": "d"}', r"lacks.*'registry'"),
    ],
)
def test_a_damaged_secrets_file_is_named_with_the_remedy(tmp_path, content, message):
    (tmp_path / "secrets.json").write_bytes(content)
    with pytest.raises(SecretsError, match=rf"secrets.json {message}.*delete it"):
        home_secrets(tmp_path)


def test_a_secrets_file_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "secrets.json").mkdir()
    with pytest.raises(SecretsError, match=r"secrets.json cannot be read.*delete it"):
        home_secrets(tmp_path)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (SPARK, "sc://spark.example.org:15002"),
        ("https://user:secret@mlflow.example.org/path/", "https://mlflow.example.org/path"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("off", "off"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, shown):
    assert without_secrets(address) == shown


# Variables


def test_variables_that_the_user_has_set_are_kept(settings, monkeypatch):
    """Our choices and tuning apply only where the user has not set the variable."""
    chosen = {
        "AIRFLOW__CORE__PARALLELISM": "16",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://db.example.org/airflow",
        "AIRFLOW_CONN_SPARK": '{"conn_type": "spark", "host": "spark://cluster:7077"}',
        "SPARK_LOCAL_IP": "10.0.0.7",
        "SPARK_SUBMIT_OPTS": "-Xss4m",
        "PYSPARK_PYTHON": "/opt/python",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
        "GX_ANALYTICS_ENABLED": "true",
        "EVERGREEN_LAST_DAY": "2022-05-01",
        "UNRELATED": "value",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    closed = settings.model_copy(update={"services": ServiceSettings(live=False)})
    env = environment(closed)
    assert {name: env[name] for name in chosen} == chosen


def test_variables_of_another_home_are_replaced(settings, monkeypatch):
    """What ties processes to a home has the folders, ports and secrets of this home."""
    fixed = {
        "AIRFLOW_HOME": str(settings.home / "airflow"),
        "EVERGREEN_HOME": str(settings.home),
        "EVERGREEN_REGISTRY_ROOT": str(settings.home / "registry"),
        "AIRFLOW_PORT": "8080",
        "MLFLOW_PORT": "5000",
        "REGISTRY_PORT": "8090",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:8080/execution/",
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": home_secrets(settings.home)["spark"],
        "AIRFLOW__API_AUTH__JWT_SECRET": home_secrets(settings.home)["airflow"],
    }
    for name in fixed:
        monkeypatch.setenv(name, "of another home")
    env = environment(settings)
    assert {name: env[name] for name in fixed} == fixed


def test_the_commands_of_this_installation_come_first(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/their/bin")
    monkeypatch.setenv("PYTHONPATH", "/their/code")
    env = environment(settings)
    assert env["PATH"] == f"{os.path.dirname(sys.executable)}:/their/bin"
    assert env["PYTHONPATH"] == f"{ROOT}/infra/airflow:/their/code"


def test_airflow_gets_the_last_day_of_a_closed_log_only(settings):
    """Without it, Airflow would run yesterday as soon as it starts."""
    closed = settings.model_copy(update={"services": ServiceSettings(live=False)})
    assert environment(closed)["EVERGREEN_LAST_DAY"] == "2022-05-06"
    assert "EVERGREEN_LAST_DAY" not in environment(settings)


def test_airflow_gets_the_clock_of_the_log(settings):
    late = settings.model_copy(update={"services": ServiceSettings(lateness=3.5)})
    env = environment(late)
    assert (env["EVERGREEN_TIMEZONE"], env["EVERGREEN_LATENESS"]) == ("Asia/Shanghai", "3.5")


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_a_process_of_airflow_waits_for_another_that_writes(settings, driver, tmp_path):
    """Asked of SQLite itself: Airflow makes the asynchronous address of the other one."""
    address = environment(settings)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    url = make_url(address.replace("sqlite:", f"{driver}:")).set(database=str(tmp_path / "db"))
    arguments, options = url.get_dialect()().create_connect_args(url)
    with closing(sqlite3.connect(*arguments, **options)) as database:
        assert database.execute("PRAGMA busy_timeout").fetchone() == (20_000,)


def test_airflow_logs_as_the_settings_say(settings):
    as_json = settings.services.model_copy(update={"log_format": "json"})
    chosen = settings.model_copy(update={"services": as_json})
    assert environment(chosen)["AIRFLOW__LOGGING__JSON_LOGS"] == "true"
    assert "AIRFLOW__LOGGING__JSON_LOGS" not in environment(settings)


def test_airflow_sends_traces_where_the_steps_send_theirs(settings, monkeypatch):
    """Over HTTP like them, and only where there is an endpoint; the user may turn it off."""
    assert "AIRFLOW__TRACES__OTEL_ON" not in environment(settings)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    traced = environment(settings)
    assert traced["AIRFLOW__TRACES__OTEL_ON"] == "true"
    assert traced["OTEL_TRACES_EXPORTER"] == "otlp_proto_http"
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "false")
    assert environment(settings)["AIRFLOW__TRACES__OTEL_ON"] == "false"


def test_two_homes_share_no_port_folder_or_secret(settings, tmp_path):
    other_ports = {option: 9000 + number for number, option in enumerate(PORTS)}
    other = settings.model_copy(
        update={"home": tmp_path / "other", "services": ServiceSettings(**other_ports)}
    )
    first = environment(settings)
    second = environment(other)
    ports = {str(getattr(settings.services, option)) for option in PORTS}
    secrets = set(home_secrets(settings.home).values())
    tied = set()
    for name, value in first.items():
        if str(settings.home) in value or value in ports | secrets:
            tied.add(name)
    assert tied >= {
        "EVERGREEN_HOME",
        "AIRFLOW_HOME",
        "MLFLOW_PORT",
        "REGISTRY_PORT",
        "AIRFLOW_PORT",
        "EVERGREEN_REGISTRY_TOKEN",
        "AIRFLOW__CORE__FERNET_KEY",
    }
    for name in tied | {"AIRFLOW_CONN_SPARK", "EVERGREEN_SPARK__REMOTE", "EVERGREEN_MLFLOW__URI"}:
        assert first[name] != second[name], name


def test_tasks_use_our_servers_by_default(settings, monkeypatch):
    """A task that loads its settings finds this home, its MLflow and its Spark."""
    loaded = reloaded(monkeypatch, environment(settings))
    assert loaded.home == settings.home
    assert loaded.mlflow_uri == f"http://127.0.0.1:{settings.services.mlflow_port}"
    assert loaded.spark.remote.startswith(f"sc://localhost:{settings.services.spark_port}/;token=")


# Servers of the user


def test_every_service_runs_here_by_default(settings):
    """The process file and jobs/local/services.py name the same services, each with its port.

    The database is a server only where the settings say so.
    """
    procfile = read_procfile(ROOT / "infra" / "Procfile", {})
    assert {service.name for service in procfile} == known_services(settings).keys()
    started = services(settings)
    names = [service.name for service in procfile]
    assert names[:2] == ["database", "storage"]
    assert [service.name for service in started] == names[2:]
    with_server = settings.model_copy(update={"database": DatabaseSettings(url="local")})
    assert [service.name for service in services(with_server)] == ["database", *names[2:]]
    ports = [service.port for service in started if service.port]
    assert sorted(ports) == sorted(getattr(settings.services, option) for option in PORTS)
    assert all(service.port_option for service in started if service.port)


def test_every_service_starts_after_what_it_depends_on(settings):
    """In the order of the process file, also where the user has placed one of them elsewhere."""
    with_server = settings.model_copy(update={"database": DatabaseSettings(url="local")})
    for chosen in (settings, with_server, with_spark(settings), with_mlflow(settings)):
        ready: set[str] = set()
        for service in services(chosen):
            assert set(service.after) <= ready, service
            ready.add(service.name)
    scheduler = services(settings)[-1]
    assert scheduler.name == "airflow-scheduler"
    assert {"airflow-api", "spark", "mlflow"} == set(scheduler.after)


@pytest.mark.parametrize("uri", [MLFLOW, "sqlite:////data/mlflow.db", "off"])
@pytest.mark.parametrize("by_variable", [False, True])
def test_tasks_use_the_users_mlflow_and_ours_is_not_started(
    settings, monkeypatch, uri, by_variable
):
    if by_variable:
        monkeypatch.setenv("EVERGREEN_MLFLOW__URI", uri)
        chosen = load_settings().model_copy(update={"home": settings.home})
    else:
        chosen = with_mlflow(settings, uri)
    assert "mlflow" not in {service.name for service in services(chosen)}
    assert [external.name for external in external_services(chosen)] == ["mlflow"]
    assert reloaded(monkeypatch, environment(chosen)).mlflow.uri == uri


@pytest.mark.parametrize("by_variable", [False, True])
def test_tasks_use_the_users_spark_and_ours_is_not_started(settings, monkeypatch, by_variable):
    if by_variable:
        monkeypatch.setenv("EVERGREEN_SPARK__REMOTE", SPARK)
        chosen = load_settings().model_copy(update={"home": settings.home})
    else:
        chosen = with_spark(settings)
    assert "spark" not in {service.name for service in services(chosen)}
    env = environment(chosen)
    assert "SPARK_CONNECT_AUTHENTICATE_TOKEN" not in env
    assert json.loads(env["AIRFLOW_CONN_SPARK"]) == {
        "conn_type": "spark_connect",
        "host": "sc://spark.example.org:15002",
        "password": "their token",
        "extra": {"use_ssl": True},
    }
    assert reloaded(monkeypatch, env).spark.remote == SPARK


@pytest.mark.parametrize(
    ("remote", "message"),
    [
        ("local[2]", r"spark\.remote is 'local\[2\]'.*sc://"),
        ("sc://h:1/;token=x;x-cluster=7", r"options \['x-cluster'\].*AIRFLOW_CONN_SPARK"),
    ],
)
def test_a_remote_that_no_airflow_connection_can_hold_is_an_error(remote, message):
    with pytest.raises(SettingsError, match=message):
        spark_connection(remote)


def test_the_users_own_connection_may_have_any_remote(settings, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SPARK", '{"conn_type": "spark_connect", "host": "sc://h"}')
    remote = "sc://h:1/;token=x;x-cluster=7"
    env = environment(with_spark(settings, remote))
    assert env["EVERGREEN_SPARK__REMOTE"] == remote


@pytest.mark.parametrize("remote", [SPARK, ""])
def test_airflow_opens_the_remote_of_its_connection(settings, remote):
    """The provider's hook rebuilds the address; its host and options are those of the settings."""
    env = environment(with_spark(settings, remote))
    code = (
        "from airflow.providers.apache.spark.hooks.spark_connect import SparkConnectHook\n"
        "print(SparkConnectHook('spark').get_connection_url())"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    opened = urlsplit(result.stdout.splitlines()[-1])
    wanted = urlsplit(env["EVERGREEN_SPARK__REMOTE"])
    assert opened.netloc == wanted.netloc
    assert connect_options(opened.path) == connect_options(wanted.path)


def connect_options(path: str) -> dict[str, list[str]]:
    return parse_qs(path.strip("/").lower(), separator=";")


def test_the_pages_to_open_are_ours_or_the_users(settings):
    ours = addresses(settings)
    assert [line.split()[0] for line in ours] == ["airflow-api", "mlflow", "registry"]
    assert "http://127.0.0.1:5000/#/experiments" in ours[1]
    theirs = addresses(with_mlflow(settings, "https://user:secret@mlflow.example.org"))
    assert "https://mlflow.example.org/#/experiments" in theirs[1]
    without = addresses(with_mlflow(settings, "off"))
    assert [line.split()[0] for line in without] == ["airflow-api", "registry"]


# What tasks inherit from the scheduler

PRELOAD = """
import json, os, sys, threading
from concurrent.futures import ThreadPoolExecutor

import airflow_local_settings


def product(n):
    import numpy as np, torch

    return float((np.eye(n) @ np.eye(n)).sum()) + float((torch.eye(n) @ torch.eye(n)).sum())


pid = os.fork()
if pid == 0:
    with ThreadPoolExecutor(2) as pool:  # the thread pools of both libraries are used
        products = list(pool.map(product, [300] * 4))
    os._exit(0 if products == [600.0] * 4 else 1)
threads = [thread.name for thread in threading.enumerate()]
status = os.waitpid(pid, 0)[1]
print(json.dumps({"threads": threads, "modules": sorted(sys.modules), "fork": status}))
"""


@pytest.fixture(scope="module")
def preloaded() -> dict:
    """The state of a process that has imported what the scheduler imports for its tasks."""
    env = os.environ | {
        "EVERGREEN_PRELOAD": "1",
        "PYTHONPATH": f"{ROOT}/infra/airflow{os.pathsep}{ROOT}",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    command = [sys.executable, "-c", PRELOAD]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_what_is_imported_before_the_fork_starts_no_thread(preloaded):
    assert preloaded["threads"] == ["MainThread"]


def test_numpy_and_torch_compute_in_a_fork(preloaded):
    assert preloaded["fork"] == 0


def test_the_slow_imports_are_done_before_the_fork(preloaded):
    slow = {"mlflow", "torch", "great_expectations", "pyspark.sql.connect.session", "grpc"}
    slow |= {"numba", "sklearn.linear_model"}
    assert slow <= set(preloaded["modules"])


def test_the_registrys_own_variable_gives_its_token(settings, monkeypatch):
    """As a container has it; an option of the settings comes first."""
    monkeypatch.setenv("EVERGREEN_REGISTRY_TOKEN", "of the container")
    assert environment(settings)["EVERGREEN_REGISTRY_TOKEN"] == "of the container"
    chosen = settings.model_copy(update={"registry": RegistrySettings(token="of the settings")})
    assert environment(chosen)["EVERGREEN_REGISTRY_TOKEN"] == "of the settings"
