"""The catalog: which versions exist, what the aliases point at, and what they pointed at before.

It is a database in SQLite or PostgreSQL.

Several processes may write at the same time. Writers take turns (SQLite: BEGIN IMMEDIATE in WAL
mode; PostgreSQL: an advisory lock), so a revision number is assigned once and an alias moves
atomically. Readers never wait. The schema comes from the migrations next to this file; the first
process to open an outdated catalog migrates it while the other processes wait. A SQLite catalog
that this process may not write is opened for reading alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Date,
    DateTime,
    Double,
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
from sqlalchemy.pool import NullPool

from embeddings.durable import locked
from embeddings.registry.errors import CatalogError

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0005"  # the newest migration
BUSY_TIMEOUT_S = 60  # how long one writer waits for another
WRITER_LOCK = 0x45564752  # key of PostgreSQL's advisory lock: "EVGR" in ASCII
ADDRESSES = (
    "a SQLite file (sqlite:////path/catalog.db) or PostgreSQL (postgresql://user@host/database)"
)


class Base(DeclarativeBase):
    """Base of the tables. Constraints have fixed names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
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
    # Grows with every publication that changes what is current. Of a day's versions, the one with
    # the highest number was published last and is current, whatever its revision number.
    sequence: Mapped[int] = mapped_column(server_default="0")
    space: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64))
    dim: Mapped[int]
    entities: Mapped[dict[str, dict[str, Any]]] = mapped_column(JSON)
    lineage: Mapped[dict[str, Any]] = mapped_column(JSON)
    # UTC, without a time zone. Only shown to people: no decision depends on it.
    published_at: Mapped[datetime] = mapped_column(DateTime)
    kind: Mapped[str] = mapped_column(String(20), server_default="embedding")
    # Null where the version was published before this was recorded, and not verified since.
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)


class DayRow(Base):
    """The last revision number that a day has assigned, also if that version was removed since.

    A removed version's number is never given to other content.
    """

    __tablename__ = "days"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    last_revision: Mapped[int]


class AliasRow(Base):
    """A movable name for one version of an embedding, such as 'latest'."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100), primary_key=True)
    version_key: Mapped[int] = mapped_column(ForeignKey("versions.key"))
    version: Mapped[VersionRow] = relationship(lazy="joined")


class MoveRow(Base):
    """One move of an alias; the columns mean what they mean in `aliases.AliasMove`.

    Versions are stored as texts, without a foreign key: the history outlives removed versions.
    """

    __tablename__ = "alias_moves"

    key: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    alias: Mapped[str] = mapped_column(String(100))
    from_version: Mapped[str | None] = mapped_column(String(150))
    to_version: Mapped[str | None] = mapped_column(String(150))
    moved_at: Mapped[datetime] = mapped_column(DateTime)  # UTC, without a time zone
    reason: Mapped[str] = mapped_column(String(500))
    moved_by: Mapped[str] = mapped_column(String(100), server_default="")


class BenchmarkRow(Base):
    """One result of a benchmark; the columns mean what they mean in `benchmarks.results.Result`."""

    __tablename__ = "benchmarks"

    key: Mapped[int] = mapped_column(primary_key=True)
    version_key: Mapped[int] = mapped_column(
        ForeignKey("versions.key", ondelete="CASCADE"), index=True
    )
    task: Mapped[str] = mapped_column(String(100))
    metric: Mapped[str] = mapped_column(String(100))
    dim: Mapped[int]
    day: Mapped[date] = mapped_column(Date)  # of the labels
    value: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    judged: Mapped[int]
    baselines: Mapped[dict[str, float]] = mapped_column(JSON)
    recorded_at: Mapped[datetime] = mapped_column(DateTime)  # UTC, without a time zone


class VerificationRow(Base):
    """The last time that a version's files were read; see `verifications.Verification`."""

    __tablename__ = "verifications"

    version_key: Mapped[int] = mapped_column(
        ForeignKey("versions.key", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    verified_at: Mapped[datetime] = mapped_column(DateTime)  # UTC, without a time zone
    faults: Mapped[list[str]] = mapped_column(JSON)


class Catalog:
    """Sessions on one catalog.

    Opening it creates or migrates the schema where necessary. Raises CatalogError if that fails.
    """

    def __init__(self, url: str) -> None:
        address = _supported(url)
        self.url = url
        self.read_only = _is_read_only(address)
        self.engine = _sqlite_reader(address) if self.read_only else _engine(address)
        self.writer = self.engine.execution_options(writes=True)
        self.reader = _with_snapshots(self.engine)
        try:
            if self.read_only:
                _require_head(self.engine)
            else:
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
        with Session(self.reader) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is the only writer among all processes.

        Commits when the block ends, rolls back on an exception. Raises CatalogError where the
        catalog is open for reading alone.
        """
        if self.read_only:
            raise CatalogError(
                f"The catalog {_masked(self.url)} can only be read by this user. To publish or to "
                "move an alias, run as a user who may write its folder."
            )
        with Session(self.writer, expire_on_commit=False) as session, session.begin():
            session.connection()  # waits for other writers now, not at the first statement
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
    # Survives a restart of the server, and keeps few of its connections while it has nothing to do.
    engine = create_engine(url, pool_pre_ping=True, pool_size=2, max_overflow=8)

    @event.listens_for(engine, "begin")
    def begin(connection):
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    return engine


def _with_snapshots(engine: Engine) -> Engine:
    """The engine with transactions whose statements all see one state, as SQLite's do anyway."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


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


def _is_read_only(url: URL) -> bool:
    """May this process only read an existing SQLite catalog? SQLite writes files beside it."""
    if url.get_backend_name() != "sqlite":
        return False
    file = Path(url.database or "")
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def _sqlite_reader(url: URL) -> Engine:
    """An engine on a file that SQLite must not try to lock or to write.

    Without a pool, so that every session sees what has been published meanwhile.
    """
    # The shared memory of WAL mode exists while a writer is connected: readers coordinate through
    # it. Without one nothing changes the file, and SQLite may read it without any lock.
    in_use = Path(f"{url.database}-shm").exists()
    mode = {"mode": "ro"} if in_use else {"immutable": "1"}
    address = f"file:{quote(str(Path(url.database or '').resolve()))}"
    reader = URL.create("sqlite", database=address, query={**mode, "uri": "true"})
    return create_engine(reader, poolclass=NullPool)


def _require_head(engine: Engine) -> None:
    """Raises CatalogError unless the schema is current: this process cannot migrate it."""
    revision = _revision(engine)
    if revision != HEAD:
        raise CatalogError(
            f"The catalog has schema {revision}, this Evergreen needs {HEAD}, and this user may "
            "not write its folder. Open it once as a user who may."
        )


@contextmanager
def _sqlite_lock(url: URL) -> Iterator[None]:
    """Keep other processes from opening the same SQLite file meanwhile; nothing for PostgreSQL.

    Switching to WAL ignores the busy timeout: if two processes do so at once, one of them fails.
    """
    if url.get_backend_name() != "sqlite":
        yield
        return
    with locked(Path(f"{url.database}.lock")):
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
