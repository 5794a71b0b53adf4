"""`[database]`: one address of a server becomes the addresses of four databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from jobs.errors import SettingsError
from jobs.settings import load_settings

LOG = '[source]\nkind = "edgelist"\npath = "log.txt"\n'
NAMES = ("airflow", "mlflow", "registry", "tuning")


def loaded(folder: Path, more: str = ""):
    file = folder / "my.toml"
    file.write_text(LOG + more)
    return load_settings(file)


def test_each_has_a_database_of_its_own_on_the_server(tmp_path):
    settings = loaded(tmp_path, '[database]\nurl = "postgresql://me@db:5433"\nprefix = "a"')
    addresses = [make_url(settings.database_address(name)) for name in NAMES]
    assert {(url.host, url.port, url.username) for url in addresses} == {("db", 5433, "me")}
    assert [url.database for url in addresses] == [
        "a_airflow",
        "a_mlflow",
        "a_registry",
        "a_tuning",
    ]


def test_without_a_server_each_has_a_file_below_home(tmp_path):
    settings = loaded(tmp_path)
    files = {Path(make_url(settings.database_address(name)).database or "") for name in NAMES}
    assert len(files) == 4
    assert all(file.is_relative_to(settings.home) for file in files)


def test_single_settings_take_precedence(tmp_path):
    more = '[database]\nurl = "postgresql://me@db"\n[registry]\nurl = "postgresql://r@other/c"\n'
    settings = loaded(tmp_path, more + '[mlflow]\nuri = "https://mlflow.example.org"')
    assert settings.registry_url == "postgresql://r@other/c"
    assert settings.mlflow_uri == "https://mlflow.example.org"


def test_options_of_the_connection_are_kept(tmp_path):
    more = '[database]\nurl = "postgresql://me@/?host=/var/run/postgresql&sslmode=require"'
    url = make_url(loaded(tmp_path, more).database_address("tuning"))
    assert url.database == "evergreen_tuning"
    assert dict(url.query) == {"host": "/var/run/postgresql", "sslmode": "require"}


def test_the_server_below_home_is_found_whatever_the_home_is_called(tmp_path):
    more = '[database]\nurl = "local"\n[services]\ndatabase_port = 9999'
    folder = tmp_path / "a%20b?c&d=e#f"
    folder.mkdir()
    settings = loaded(folder, more)
    url = make_url(settings.registry_url)
    assert (url.host, url.port, url.password) == ("127.0.0.1", 9999, None)
    assert url.query["passfile"] == str(settings.home / "postgres" / "pgpass")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@db",
        "postgresql://me@db?password=hunter2",
        "postgresql://me@db?sslmode=require&sslpassword=hunter2",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path, url):
    with pytest.raises(SettingsError, match="PGPASSWORD") as refused:
        loaded(tmp_path, f'[database]\nurl = "{url}"')
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me@db", "expected postgresql://user@host:port, or local"),
        ("postgresql://db", "expected postgresql://user@host:port"),
        ("postgresql://me@db:port", "expected postgresql://user@host:port"),
        ("postgresql://me@db/mine", "without a database: database.prefix names"),
        ("here", "expected postgresql://user@host:port"),
    ],
)
def test_an_address_that_is_no_server_is_refused(tmp_path, url, message):
    with pytest.raises(SettingsError, match=f"database.url: .*{message}"):
        loaded(tmp_path, f'[database]\nurl = "{url}"')


def test_a_prefix_needs_no_quotes(tmp_path):
    with pytest.raises(SettingsError, match="database.prefix"):
        loaded(tmp_path, "[database]\nprefix = 'a\"; DROP'")
