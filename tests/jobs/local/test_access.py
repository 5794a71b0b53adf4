"""Who can reach the services: on loopback everybody here, beyond it only with a login."""

from __future__ import annotations

import json
import os
import socket
import sys

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import SettingsError
from jobs.local import doctor
from jobs.local.access import ALL_ADMINS, check_access, page_addresses
from jobs.local.environment import environment, store_airflow_login, store_mlflow_login
from jobs.local.services import known_services, services
from jobs.local.single import LOCK
from jobs.local.supervisor import Service, Supervisor, taken_ports
from jobs.settings import MLflowSettings, ServiceSettings, Settings, load_settings
from tests.ports import reserve_port

PASSWORD = "a secret of ours"
ELSEWHERE = "203.0.113.1"  # reserved for documentation: no machine has it


@pytest.fixture(autouse=True)
def no_variables_of_the_user(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("EVERGREEN_", "AIRFLOW_", "MLFLOW_")):
            monkeypatch.delenv(name)


def with_services(settings: Settings, **options) -> Settings:
    return settings.model_copy(update={"services": ServiceSettings(**options)})


# The address


@pytest.mark.parametrize(
    ("host", "beyond", "reached_at"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:1"),
        ("localhost", False, "http://127.0.0.1:1"),
        ("127.0.0.2", False, "http://127.0.0.2:1"),
        ("::1", False, "http://[::1]:1"),
        ("0.0.0.0", True, "http://127.0.0.1:1"),
        ("::", True, "http://[::1]:1"),
        ("0:0:0:0:0:0:0:0", True, "http://[::1]:1"),
        ("::ffff:0.0.0.0", True, "http://[::ffff:0:0]:1"),
        ("10.0.0.5", True, "http://10.0.0.5:1"),
        ("8.8.8.8", True, "http://8.8.8.8:1"),
        ("fd00::5", True, "http://[fd00::5]:1"),
    ],
)
def test_every_address_but_loopback_counts_as_more(host, beyond, reached_at):
    services = ServiceSettings(host=host)
    assert (services.beyond_loopback, services.address(1)) == (beyond, reached_at)


@pytest.mark.parametrize(
    "host",
    ["", "*", "gpubox", "10.0.0.300", "0.0.0.0:8080", "http://0.0.0.0", "0", "$(id)", "[::]"],
)
def test_what_is_no_ip_address_is_refused(monkeypatch, host):
    monkeypatch.setenv("EVERGREEN_SERVICES__HOST", host)
    with pytest.raises(SettingsError, match=r"services\.host: expected an IP address .*0\.0\.0\.0"):
        load_settings()


def test_an_address_of_another_machine_is_refused_with_those_of_this_one():
    with pytest.raises(SettingsError, match=rf"services.host is {ELSEWHERE}.*\b127\.0\.0\.1\b"):
        check_access(ServiceSettings(host=ELSEWHERE, password=PASSWORD))


@pytest.mark.parametrize(("host", "other"), [("127.0.0.2", "127.0.0.1"), ("::1", "127.0.0.1")])
def test_a_service_on_one_address_is_ready_and_taken_there_only(tmp_path, host, other):
    try:
        check_access(ServiceSettings(host=host))
    except SettingsError as error:
        pytest.skip(str(error))
    port = reserve_port()
    command = f"exec {sys.executable} -m http.server --bind {host} {port}"
    service = Service("web", command, port=port, host=host, health="/")
    supervisor = Supervisor([service], tmp_path, os.environ)
    try:
        supervisor.start(report=lambda line: None)
        elsewhere = Service("web", command, port=port, host=other)
        assert [len(taken_ports([service])), len(taken_ports([elsewhere]))] == [1, 0]
    finally:
        supervisor.stop()


def test_only_airflow_mlflow_and_registry_leave_loopback(settings):
    opened = with_services(settings, host="10.0.0.5", password=PASSWORD)
    hosts = {service.name: service.host for service in services(opened) if service.port}
    named = dict.fromkeys(("airflow-api", "mlflow", "registry"), "10.0.0.5")
    assert hosts == named | {"spark": "127.0.0.1"}


def test_every_service_is_on_loopback_by_default(settings):
    assert environment(settings)["SERVICES_HOST"] == "127.0.0.1"
    for known in known_services(settings).values():
        assert known.get("host", "127.0.0.1") == "127.0.0.1"


def test_a_browser_may_use_the_public_host():
    services = ServiceSettings(public_host="ranker.example.org")
    assert "http://ranker.example.org:5000" in page_addresses(services, 5000)


def test_a_browser_may_use_the_name_and_every_address_of_the_machine():
    everywhere = page_addresses(ServiceSettings(host="0.0.0.0"), 5000)
    assert {"http://127.0.0.1:5000", f"http://{socket.gethostname()}:5000"} <= set(everywhere)
    one = page_addresses(ServiceSettings(host="fd00::5"), 5000)
    assert one == [f"http://{socket.gethostname()}:5000", "http://[fd00::5]:5000"]


# The login


@pytest.mark.parametrize("command", [["up"], ["demo", "--days", "1"], ["airflow", "version"]])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", ELSEWHERE])
def test_without_a_password_nothing_starts_beyond_loopback(monkeypatch, tmp_path, host, command):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_SERVICES__HOST", host)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert f"services.host is {host}" in result.output
    assert "EVERGREEN_SERVICES__PASSWORD" in result.output
    # No secrets, no databases; a demo has looked which days the log has.
    assert {path.name for path in tmp_path.iterdir()} <= {LOCK, "intake"}


@pytest.mark.parametrize("value", ["true", "True", "t", "1"])
def test_a_variable_that_opens_airflow_to_everybody_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv(ALL_ADMINS, value)
    with pytest.raises(SettingsError, match=f"{ALL_ADMINS} is '{value.lower()}'.*Remove"):
        check_access(ServiceSettings(password=PASSWORD))
    check_access(ServiceSettings())


@pytest.mark.parametrize("password", ["elevenchars", "twelve\nlines ", "пароль пароль"])
def test_a_password_that_a_client_could_not_send_is_refused(monkeypatch, password):
    monkeypatch.setenv("EVERGREEN_SERVICES__PASSWORD", password)
    with pytest.raises(SettingsError, match=r"services\.password: expected at least 12 printable"):
        load_settings()


@pytest.mark.parametrize(
    "line",
    [
        "password = 'tooshort'",
        "password = ['tooshort']",
        "password = {a = 'tooshort'}",
        "pasword = 'tooshort'",
        "host = 'x'\npassword = 'tooshort'\nlive = 3",
    ],
)
def test_no_message_repeats_a_password(tmp_path, line):
    file = tmp_path / "my.toml"
    file.write_text(f"[source]\nkind = 'kuairand'\npath = 'log'\n[services]\n{line}")
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=r"services\.pass?word") as refused:
        load_settings(file)
    assert "tooshort" not in str(refused.value)


@pytest.mark.parametrize(("mode", "refused"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_settings_file_with_a_password_must_be_private(tmp_path, mode, refused):
    file = tmp_path / "my.toml"
    text = f"[source]\nkind = 'kuairand'\npath = 'log'\n[services]\npassword = '{PASSWORD}'"
    file.write_text(text)
    file.chmod(mode)
    if not refused:
        assert load_settings(file).services.password.get_secret_value() == PASSWORD
        return
    with pytest.raises(SettingsError, match=r"my.toml holds services.password.*chmod 600"):
        load_settings(file)


def test_settings_show_no_password(settings):
    opened = with_services(settings, password=PASSWORD)
    assert PASSWORD not in repr(opened) + opened.model_dump_json() + str(opened.section("services"))


def test_a_login_is_demanded_exactly_where_there_is_a_password(settings):
    env = environment(settings)
    assert (env["MLFLOW_LOGIN_OPTIONS"], env[ALL_ADMINS]) == ("", "true")
    assert "MLFLOW_TRACKING_USERNAME" not in env
    env = environment(with_services(settings, password=PASSWORD))
    assert (env["MLFLOW_LOGIN_OPTIONS"], env[ALL_ADMINS]) == ("--app-name basic-auth", "false")
    assert env["MLFLOW_TRACKING_PASSWORD"] == PASSWORD


def test_our_password_is_not_sent_to_the_users_own_mlflow(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "theirs")
    theirs = MLflowSettings(uri="https://mlflow.example.org")
    opened = with_services(settings, password=PASSWORD).model_copy(update={"mlflow": theirs})
    env = environment(opened)
    assert env["MLFLOW_TRACKING_PASSWORD"] == "theirs"
    assert PASSWORD not in env.values()


def test_a_new_password_changes_every_key_that_signs_a_session(settings):
    keys = []
    for password in ("", PASSWORD, f"{PASSWORD}!"):
        env = environment(with_services(settings, password=password))
        keys += [env["AIRFLOW__API_AUTH__JWT_SECRET"], env["AIRFLOW__API__SECRET_KEY"]]
        keys.append(env.get("MLFLOW_FLASK_SERVER_SECRET_KEY"))
    assert len(set(keys)) == 6  # each twice in Airflow, and one of MLflow, but none without a login


def test_the_stored_login_is_private_and_goes_with_the_password(settings):
    opened = with_services(settings, password=PASSWORD)
    environment(opened)  # creates the folders
    (settings.home / "mlflow" / "basic_auth.db").write_text("of an earlier password")
    store_airflow_login(opened)
    store_mlflow_login(opened)
    passwords = settings.home / "airflow" / "passwords.json"
    users = settings.home / "mlflow" / "basic_auth.db"
    assert json.loads(passwords.read_text()) == {"evergreen": PASSWORD}
    assert users.read_text() == ""
    assert {file.stat().st_mode & 0o777 for file in (passwords, users)} == {0o600}
    store_airflow_login(settings)
    store_mlflow_login(settings)
    assert not passwords.exists()
    assert not users.exists()


# The doctor


@pytest.mark.parametrize(
    ("options", "state", "found"),
    [
        ({}, "good", "this machine only, without a login"),
        ({"password": PASSWORD}, "good", "this machine only, with a login"),
        ({"host": "0.0.0.0"}, "missing", "services.host is 0.0.0.0"),
        ({"host": "0.0.0.0", "password": PASSWORD}, "warning", "0.0.0.0: Airflow and MLflow with"),
    ],
)
def test_the_doctor_says_who_can_reach_the_services(options, state, found):
    finding = doctor.access(ServiceSettings(**options))
    assert finding.state == state
    assert found in finding.found
    assert bool(finding.remedy) == (state != "good")
