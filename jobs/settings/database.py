"""The databases of a home: SQLite files below it, or one PostgreSQL server with one for each user.

No address holds a password. PostgreSQL's own client library reads it where it is needed: from
`PGPASSWORD`, or from a file that only its owner can read, `PGPASSFILE` or `~/.pgpass`.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import Field, field_validator

from jobs.section import Section
from jobs.settings.addresses import sqlite_address

LOCAL = "local"  # a server below home
LOCAL_USER = "evergreen"  # its owner
SCHEMES = ("postgresql", "postgresql+psycopg")
# Who has a database, and its file below home where that is SQLite. Each has one of its own: the
# schemas of MLflow, Optuna, Airflow and the registry all have a table `alembic_version`. A backup
# reads them in this order: the lineage of a version names runs.
FILES = {
    "registry": "registry/catalog.db",
    "mlflow": "mlflow/mlflow.db",
    "airflow": "airflow/airflow.db",
    "tuning": "tuning/optuna.db",
}


class DatabaseSettings(Section):
    """Where Airflow, MLflow, the registry's catalog and the studies of tuning keep their tables."""

    url: str = ""
    """A PostgreSQL server, `postgresql://user@host:5432`, on which each of them gets a database of
    its own; `local`: a server below home, which runs with the services. Empty: SQLite files below
    home. The password comes from `PGPASSWORD`, from the file that `PGPASSFILE` names, or from
    `~/.pgpass`. `registry.url` and `mlflow.uri` take precedence for their own."""

    prefix: str = Field(default="evergreen", pattern=r"^[a-z][a-z0-9_]{0,39}$")
    """The databases are PREFIX_airflow, PREFIX_mlflow, PREFIX_registry and PREFIX_tuning. Homes
    that share a server need different ones."""

    @field_validator("url")
    @classmethod
    def _validate_url(cls, url: str) -> str:
        if url in ("", LOCAL):
            return url
        expected = f"expected postgresql://user@host:port, or {LOCAL}"
        try:
            parts = urlsplit(url)
            _ = parts.port  # raises where it is no number
        except ValueError:
            raise ValueError(expected) from None
        # A Unix socket is named as in postgresql://user@/?host=/var/run/postgresql
        somewhere = parts.hostname or "host=" in parts.query
        if parts.scheme not in SCHEMES or not parts.username or not somewhere:
            raise ValueError(expected)
        options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        if parts.password is not None or options & {"password", "sslpassword"}:
            raise ValueError(
                "an address with a password ends up in logs and lists of processes; leave it out, "
                "and set PGPASSWORD, or write it to ~/.pgpass (chmod 600)"
            )
        if parts.path.strip("/"):
            raise ValueError(f"{expected}, without a database: database.prefix names the databases")
        return url

    @property
    def is_local(self) -> bool:
        """Is it the server below home, which runs with the services?"""
        return self.url == LOCAL

    def named(self, name: str) -> str:
        """The database of one of FILES on the server."""
        return f"{self.prefix}_{name}"


def passfile(home: Path) -> Path:
    """The password of the server below home, as PostgreSQL's client library reads it."""
    return home / "postgres" / "pgpass"


def server_address(database: DatabaseSettings, home: Path, port: int, name: str) -> str:
    """The SQLAlchemy address of a database on the server.

    port: of the server below home. name: of the database, as in `evergreen_registry`.
    """
    if database.is_local:
        file = quote(str(passfile(home)))
        return f"postgresql+psycopg://{LOCAL_USER}@127.0.0.1:{port}/{name}?passfile={file}"
    parts = urlsplit(database.url)
    return parts._replace(scheme=SCHEMES[-1], path=f"/{name}").geturl()


def sqlite_database(home: Path, name: str) -> str:
    """The SQLAlchemy address of one of FILES."""
    return sqlite_address(home / FILES[name])
