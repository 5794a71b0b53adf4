"""The catalog: which versions exist and what the aliases point at, in SQLite or PostgreSQL.

Several processes may write at the same time. Writers take turns (SQLite: BEGIN IMMEDIATE in WAL
mode; PostgreSQL: an advisory lock), so a revision number is assigned once and an alias moves
atomically. Readers never wait. The schema comes from the migrations next to this file; the first
process to open an outdated catalog migrates it while the other processes wait.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Date,
    DateTime,
    Engine,
    ForeignKey,
    MetaData,
    String,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from embeddings.registry.errors import CatalogError

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0001"  # the newest migration
BUSY_TIMEOUT_S = 60  # how long one writer waits for another
WRITER_LOCK = 0x45564752  # key of PostgreSQL's advisory lock: "EVGR" in ASCII
ADDRESSES = (
    "a SQLite file (sqlite:////path/catalog.db) or PostgreSQL (postgresql://user@host/database)"
)


class Base(DeclarativeBase):
    """Base of the tables. Constraints have fixed names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )


class VersionRow(Base):
    """One published version; the columns mean what they mean in `versions.Version`."""

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("name", "day", "revision"),
        UniqueConstraint("name", "day", "digest"),
    )

    key: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    day: Mapped[date] = mapped_column(Date)
    revision: Mapped[int]
    space: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64))
    dim: Mapped[int]
    entities: Mapped[dict[str, dict[str, int]]] = mapped_column(JSON)
    lineage: Mapped[dict[str, Any]] = mapped_column(JSON)
    # UTC, without a time zone. Only shown to people: no decision depends on it.
    published_at: Mapped[datetime] = mapped_column(DateTime)


class AliasRow(Base):
    """A movable name for one version of an embedding, such as 'latest'."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100), primary_key=True)
    version_key: Mapped[int] = mapped_column(ForeignKey("versions.key"))
    version: Mapped[VersionRow] = relationship(lazy="joined")


class Catalog:
    """Sessions on one catalog.

    Opening it creates or migrates the schema where necessary. Raises CatalogError if that fails.
    """

    def __init__(self, url: str) -> None:
        address = _supported(url)
        self.engine = _engine(address)
        self.writer = self.engine.execution_options(writes=True)
        try:
            with _sqlite_lock(address):
                _upgrade(self.engine, self.writer)
        except CatalogError:
            self.close()
            raise
        except (SQLAlchemyError, OSError) as error:
            self.close()
            driver_error = error.orig if isinstance(error, DBAPIError) else error
            cause = str(driver_error).partition("\n")[0]
            raise CatalogError(
                f"The catalog {_masked(url)} cannot be opened: {cause}. "
                "Is the address right, and is its server running?"
            ) from None

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state of the catalog."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is the only writer among all processes.

        Commits when the block ends, rolls back on an exception.
        """
        with Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session


def _supported(url: str) -> URL:
    """The address, with the driver that we install. Raises CatalogError for other databases."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise CatalogError(f"{_masked(url)!r} is not a catalog address. Use {ADDRESSES}.") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise CatalogError(f"{_masked(url)!r} cannot hold a catalog. Use {ADDRESSES}.")


def _masked(url: str) -> str:
    """The address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]  # whatever it is, a password is before the @


def _engine(url: URL) -> Engine:
    """An engine whose transactions lock out other writers if the option `writes` is set."""
    return _postgresql(url) if url.get_backend_name() == "postgresql" else _sqlite(url)


def _postgresql(url: URL) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)  # survives a restart of the server

    @event.listens_for(engine, "begin")
    def begin(connection):
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    return engine


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection, _record):
        # Stops sqlite3 from sending its own BEGIN, which would not be IMMEDIATE; ours is below.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection):
        writes = connection.get_execution_options().get("writes")
        # A deferred transaction that turns into a writer fails at once if another wrote meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _sqlite_lock(url: URL) -> Iterator[None]:
    """Keep other processes from opening the same SQLite file meanwhile; nothing for PostgreSQL.

    Switching to WAL ignores the busy timeout: if two processes do so at once, one of them fails.
    """
    if url.get_backend_name() != "sqlite":
        yield
        return
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    with open(f"{url.database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _upgrade(engine: Engine, writer: Engine) -> None:
    """Migrate the schema to HEAD, in one transaction."""
    if _revision(engine) == HEAD:
        return
    if engine.dialect.name == "sqlite":
        # WAL cannot be turned on inside a transaction. The file keeps the setting.
        with closing(engine.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
    # Imported here: Alembic is slow to import and needed only by an outdated catalog.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with writer.begin() as connection:
        # Read again as the only writer: another process may have migrated it meanwhile.
        revision = _revision_of(connection)
        if revision is not None and revision > HEAD:
            raise CatalogError(
                f"The catalog {engine.url!r} has schema {revision}, but this Evergreen supports "
                f"schemas up to {HEAD}. Upgrade Evergreen."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(engine: Engine) -> str | None:
    """As `_revision_of`, on a new connection."""
    with engine.connect() as connection:
        return _revision_of(connection)


def _revision_of(connection: Connection) -> str | None:
    """The catalog's schema version; None before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
