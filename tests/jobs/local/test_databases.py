"""The databases on a PostgreSQL server: created where missing, and judged."""

from __future__ import annotations

import os

import psycopg
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.local.database_checks import check_databases
from jobs.local.databases import DatabaseError, connected, create_missing, databases
from jobs.local.postgres import CONNECTIONS, data_folder
from jobs.settings import DatabaseSettings, MLflowSettings, RegistrySettings
from jobs.settings.addresses import libpq_address
from tests.one_row_home import home_settings


def on(url: str, folder, prefix: str, **sections):
    """Settings of a home whose databases are on this server."""
    return home_settings(folder, database=DatabaseSettings(url=url, prefix=prefix), **sections)


def execute(settings, statement: str) -> None:
    with connected(settings) as connection:
        connection.execute(statement)


def test_what_is_missing_is_created_once(server_url, tmp_path):
    settings = on(server_url, tmp_path, "once")
    named = ["once_registry", "once_mlflow", "once_airflow", "once_tuning"]
    assert create_missing(settings) == named
    assert create_missing(settings) == []
    found = databases(settings)
    assert [(one.name, one.exists, one.problem) for one in found] == [(n, True, "") for n in named]


def test_what_is_placed_elsewhere_gets_no_database(server_url, tmp_path):
    elsewhere = {
        "registry": RegistrySettings(url="sqlite:////data/catalog.db"),
        "mlflow": MLflowSettings(uri="https://mlflow.example.org"),
    }
    settings = on(server_url, tmp_path, "elsewhere", **elsewhere)
    assert [one.name for one in databases(settings)] == ["elsewhere_airflow", "elsewhere_tuning"]


def test_the_statements_of_a_refusal_are_those_that_help(server_url, local_server, tmp_path):
    """A role that may not create databases; somebody who may runs what the error says."""
    execute(local_server, "CREATE ROLE limited LOGIN PASSWORD 'a password'")
    url = server_url.replace("evergreen@", "limited@")
    settings = on(url, tmp_path, "refused")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", "a password")
        with pytest.raises(DatabaseError, match="limited may not create databases") as refused:
            create_missing(settings)
    statements = [line.strip() for line in str(refused.value).splitlines()[1:]]
    assert len(statements) == 4
    for statement in statements:
        execute(local_server, statement)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", "a password")
        assert create_missing(settings) == []
        assert not any(one.problem for one in databases(settings))


def test_another_encoding_is_a_problem(server_url, tmp_path):
    settings = on(server_url, tmp_path, "latin")
    execute(settings, "CREATE DATABASE latin_mlflow ENCODING 'LATIN1' TEMPLATE template0")
    findings = list(check_databases(settings))
    assert [one.found for one in findings if one.missing] == [
        "latin_mlflow has the encoding LATIN1"
    ]


def test_a_wrong_password_is_refused_and_not_repeated(server_url, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2hunter2")
    with pytest.raises(DatabaseError, match="password authentication failed") as refused:
        create_missing(on(server_url, tmp_path, "wrong"))
    assert "hunter2" not in str(refused.value)


def test_a_server_that_does_not_run_is_found_by_the_doctor(tmp_path):
    settings = on("postgresql://me@127.0.0.1:1", tmp_path, "down")
    (finding,) = check_databases(settings)
    assert finding.missing
    assert "127.0.0.1" in finding.found
    assert "is the server running" in finding.remedy


@pytest.mark.skipif(os.getuid() != 0, reason="only root's server runs as another user")
def test_a_home_that_the_servers_user_may_not_enter_is_found_by_the_doctor(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings = home_settings(closed / "home", database=DatabaseSettings(url="local"))
    (finding,) = check_databases(settings)
    assert finding.missing
    assert f"chmod o+x {closed}" in finding.remedy


def test_the_local_server_listens_on_loopback_and_keeps_its_password_private(local_server):
    with connected(local_server) as connection:
        shown = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN "
                "('listen_addresses', 'unix_socket_directories', 'server_encoding')"
            ).fetchall()
        )
    assert shown == {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "server_encoding": "UTF8",
    }
    file = local_server.home / "postgres" / "pgpass"
    assert file.stat().st_mode & 0o777 == 0o600
    assert data_folder(local_server.home).stat().st_mode & 0o077 == 0
    password = file.read_text().strip().rpartition(":")[2]
    assert password not in local_server.registry_url


def test_the_local_server_has_no_more_connections_than_all_services_may_use(local_server):
    execute(local_server, "CREATE ROLE many LOGIN PASSWORD 'a password'")
    address = libpq_address(local_server.on_server("postgres")).replace("evergreen@", "many@")
    address = address.partition("?")[0]
    opened = []
    try:
        with pytest.raises(psycopg.OperationalError, match="remaining connection slots"):
            for _ in range(CONNECTIONS + 1):
                opened.append(psycopg.connect(address, password="a password"))
    finally:
        for connection in opened:
            connection.close()
    assert CONNECTIONS - 5 < len(opened) <= CONNECTIONS


def test_the_command_creates_and_lists(server_url, tmp_path, monkeypatch):
    file = tmp_path / "my.toml"
    log = home_settings(tmp_path).source.path
    file.write_text(f'[source]\nkind = "edgelist"\npath = "{log}"\n[database]\nprefix = "listed"\n')
    monkeypatch.setenv("EVERGREEN_DATABASE__URL", server_url)
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    result = CliRunner().invoke(app, ["databases", "create"])
    assert result.exit_code == 0, result.output
    assert result.output.split() == [
        word
        for name in ("registry", "mlflow", "airflow", "tuning")
        for word in (f"listed_{name}", "created")
    ]


def test_without_a_server_the_command_says_what_to_set(tmp_path, monkeypatch):
    file = tmp_path / "my.toml"
    file.write_text('[source]\nkind = "edgelist"\npath = "log.txt"\n')
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    result = CliRunner().invoke(app, ["databases", "create"])
    assert result.exit_code == 1
    assert "database.url is empty" in result.output
