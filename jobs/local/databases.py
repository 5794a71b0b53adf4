"""The databases on the PostgreSQL server of `database.url`: created where missing, and judged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from jobs.errors import EvergreenError
from jobs.settings import Settings
from jobs.settings.addresses import libpq_address
from jobs.settings.database import FILES

MAINTENANCE = "postgres"  # the database that every server has
OLDEST = 13  # PostgreSQL version that Airflow 3 supports
CONNECT_S = 10
STARTING_PATIENCE_S = 60.0  # for a server that is still starting


class DatabaseError(EvergreenError):
    """The PostgreSQL server cannot be used as it is; the message has the remedy."""


@dataclass(frozen=True)
class Database:
    """One of the databases. problem: what is wrong with it, "": nothing; remedy: what to do."""

    name: str
    exists: bool
    problem: str = ""
    remedy: str = ""


def own_databases(settings: Settings) -> dict[str, str]:
    """The address of each of FILES that is this home's own: a server of MLflow has its own."""
    found = {name: settings.database_address(name) for name in FILES}
    found["registry"] = settings.registry_url
    if settings.mlflow.uri:
        del found["mlflow"]
    return found


def wanted(settings: Settings) -> list[str]:
    """The names of the databases that this home uses on the server."""
    return [settings.database.named(name) for name in placed_together(settings)]


def placed_together(settings: Settings) -> list[str]:
    """Those of FILES that are where `database.url` places them all."""
    own = own_databases(settings)
    return [name for name in own if own[name] == settings.database_address(name)]


@contextmanager
def connected(settings: Settings, name: str = MAINTENANCE) -> Iterator[psycopg.Connection]:
    """A connection to a database of the server. Raises DatabaseError where there is none."""
    if not settings.database.url:
        raise DatabaseError(
            "database.url is empty: the databases are SQLite files below home. Set it to a "
            "PostgreSQL server, as in postgresql://user@host:5432."
        )
    address = libpq_address(settings.on_server(name))
    try:
        connection = psycopg.connect(address, autocommit=True, connect_timeout=CONNECT_S)
    except psycopg.OperationalError as error:
        reason = str(error).partition("\n")[0]
        where = settings.database.url
        remedy = (
            "It runs with the services: start them with `evergreen up`. Its password is in a file "
            "below home; unset PGPASSWORD, which would be used instead."
            if settings.database.is_local
            else "Is the address right, is the server running, and does PGPASSWORD or ~/.pgpass "
            "have the password?"
        )
        raise DatabaseError(
            f"The database {name} of database.url = {where} cannot be opened: {reason}. {remedy}"
        ) from None
    with connection:
        yield connection


def create_missing(settings: Settings) -> list[str]:
    """Create the databases that are missing, and return their names.

    Raises DatabaseError with the statements to run where the role may not.
    """
    created = []
    with connected(settings) as connection:
        have = existing(connection)
        missing = [name for name in wanted(settings) if name not in have]
        for name in missing:
            try:
                connection.execute(statement(name))
            except psycopg.errors.DuplicateDatabase:  # another process was faster
                continue
            except psycopg.errors.UniqueViolation:  # the same, at the same moment
                continue
            except psycopg.errors.InsufficientPrivilege:
                problem, remedy = refusal(connection, missing)
                raise DatabaseError(f"{problem}. {remedy}") from None
            created.append(name)
    return created


def statement(name: str, owner: str = "") -> sql.Composed:
    """Creates a database; template0, because template1 may have another encoding."""
    text = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(
        sql.Identifier(name)
    )
    return text + sql.SQL(" OWNER {}").format(sql.Identifier(owner)) if owner else text


def refusal(connection: psycopg.Connection, missing: list[str]) -> tuple[str, str]:
    """What is wrong, and the statements that somebody else has to run."""
    role = connection.info.user
    lines = [f"  {statement(name, role).as_string(connection)};" for name in missing]
    remedy = "\n".join(["Run as one who may:", *lines])
    return f"{', '.join(missing)} does not exist, and {role} may not create databases", remedy


def existing(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("SELECT datname FROM pg_database").fetchall()
    return {name for (name,) in rows}


def server_version(connection: psycopg.Connection) -> str:
    return connection.execute("SHOW server_version").fetchone()[0].split()[0]  # type: ignore[index]


def databases(settings: Settings) -> list[Database]:
    """Every database of this home, and what is wrong with it. Raises DatabaseError."""
    with connected(settings) as connection:
        have = existing(connection)
        row = connection.execute(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        may_create = row is not None and row[0]
        found = []
        for name in wanted(settings):
            if name in have:
                found.append(Database(name, True, *fault_of(settings, name)))
            elif may_create:
                found.append(Database(name, False))
            else:
                found.append(Database(name, False, *refusal(connection, [name])))
    return found


def fault_of(settings: Settings, name: str) -> tuple[str, str]:
    """What is wrong with a database that exists, and the remedy; "" where nothing is."""
    try:
        with connected(settings, name) as connection:
            row = connection.execute(
                "SELECT pg_encoding_to_char(encoding), "
                "has_schema_privilege('public', 'CREATE') "
                "FROM pg_database WHERE datname = current_database()"
            ).fetchone()
            role = connection.info.user
    except DatabaseError as error:
        problem, _, remedy = str(error).partition(". ")
        return problem, remedy
    assert row is not None, "the database that this is connected to exists"
    encoding, may_create = row
    if encoding != "UTF8":
        return f"{name} has the encoding {encoding}", "Create it again with ENCODING 'UTF8'."
    if not may_create:
        remedy = f'Run: ALTER DATABASE "{name}" OWNER TO "{role}";'
        return f"{role} may not create tables in {name}", remedy
    return "", ""


def await_server(settings: Settings) -> None:
    """Wait until a server that has just been started takes connections. Raises DatabaseError."""
    deadline = time.monotonic() + STARTING_PATIENCE_S
    while True:
        try:
            with connected(settings):
                return
        except DatabaseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
