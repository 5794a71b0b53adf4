"""Moves a home from its SQLite files to the PostgreSQL server of `database.url`.

Moved are the registry's catalog, MLflow's runs and models, and the studies of tuning. Airflow
begins with a fresh database: its DAGs find what is current by content, and compute nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import optuna
from mlflow.store.db.utils import _initialize_tables
from sqlalchemy import Connection, Engine, MetaData, create_engine, delete, event, inspect, select

from embeddings.registry.catalog import Catalog
from embeddings.registry.copying import copy_catalog, copy_tables
from jobs.errors import EvergreenError
from jobs.local.databases import create_missing, placed_together
from jobs.local.services import database_server
from jobs.local.single import sole_runner
from jobs.settings import Settings
from jobs.settings.database import FILES, sqlite_database

SCHEMAS = ("alembic_version", "version_info")  # tables that hold the version of the others


class MoveError(EvergreenError):
    """A database cannot be moved; nothing of it was."""


def move(settings: Settings, report: Callable[[str], None]) -> None:
    """Copy every SQLite database of the home to the server; the files stay as they are.

    It may be repeated: what an earlier call has copied is only compared.
    report: receives a line for each. Raises DatabaseError, MoveError, ServiceError where the
    services run, and CatalogError where a database on the server has other rows.
    """
    with sole_runner(settings.home), database_server(settings):
        create_missing(settings)
        together = placed_together(settings)
        for name, copy in COPIES.items():
            file = settings.home / FILES[name]
            if name not in together:
                report(f"{name:<10} is elsewhere by registry.url or mlflow.uri: nothing to copy")
                continue
            if not file.exists():
                report(f"{name:<10} {file} does not exist: nothing to copy")
                continue
            counts = copy(sqlite_database(settings.home, name), settings.database_address(name))
            tables = sum(1 for rows in counts.values() if rows)
            report(f"{name:<10} {sum(counts.values())} rows of {tables} tables, all compared")
    report("airflow    begins with a fresh database; what is current is not computed again")


def copy_registry(source: str, target: str) -> dict[str, int]:
    with closing(Catalog(source)) as catalog:
        return copy_catalog(catalog, target)


def copy_mlflow(source: str, target: str) -> dict[str, int]:
    with opened(target) as engine:
        if not inspect(engine).get_table_names():
            _initialize_tables(engine)  # as MLflow does for an empty database; it is pinned
            delete_rows(engine)  # such as a default workspace, which the files have too
    return copy_database(source, target)


def copy_studies(source: str, target: str) -> dict[str, int]:
    optuna.storages.RDBStorage(target.replace("{", "{{").replace("}", "}}")).engine.dispose()
    return copy_database(source, target)


COPIES = {"registry": copy_registry, "mlflow": copy_mlflow, "tuning": copy_studies}


def copy_database(source: str, target: str) -> dict[str, int]:
    """Copy all rows between two databases with the same tables; returns the rows of each.

    Raises MoveError where their schemas are of different versions.
    """
    with (
        opened(source) as old,
        opened(target) as new,
        old.connect() as reading,
        new.begin() as writing,
    ):
        metadata = tables_of(writing)  # its types are the stricter ones
        for name in SCHEMAS:
            require_equal_schema(reading, writing, metadata, name)
        tables = [table for table in metadata.sorted_tables if table.name not in SCHEMAS]
        return copy_tables(reading, writing, tables)


def delete_rows(engine: Engine) -> None:
    """Empty every table, except for those that hold the version of the schema."""
    with engine.begin() as connection:
        for table in reversed(tables_of(connection).sorted_tables):
            if table.name not in SCHEMAS:
                connection.execute(delete(table))


def require_equal_schema(
    reading: Connection, writing: Connection, metadata: MetaData, name: str
) -> None:
    if name not in metadata.tables:
        return
    versions = select(metadata.tables[name])
    old, new = reading.execute(versions).all(), writing.execute(versions).all()
    if old != new:
        raise MoveError(
            f"{reading.engine.url!r} has the schema {old}, and the installed version writes {new}. "
            "Upgrade the old database first: see Upgrade in docs/operations.md."
        )


def tables_of(connection: Connection) -> MetaData:
    """The tables of a database, with types that any other database has too."""
    metadata = MetaData()

    @event.listens_for(metadata, "column_reflect")
    def generalise(_inspector, _table, column):
        column["type"] = column["type"].as_generic()

    metadata.reflect(connection)
    return metadata


@contextmanager
def opened(address: str) -> Iterator[Engine]:
    engine = create_engine(address)
    try:
        yield engine
    finally:
        engine.dispose()
