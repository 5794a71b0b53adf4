"""The catalog: which versions exist and what the aliases point at, in SQLite or PostgreSQL.

Several processes write at once. Writers take turns (SQLite: BEGIN IMMEDIATE in WAL mode; PostgreSQL: an advisory lock),
so that a revision number is given once and an alias moves as one decision; readers never wait. The schema comes from
the migrations beside this file and is brought up to date on opening, by one process while the others wait.
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
HEAD = "0001"  # the last of them
BUSY_TIMEOUT_S = 60  # how long one writer waits for another
TURN = 0x45564752  # key of PostgreSQL's advisory lock


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )


class VersionRow(Base):
    """One published version. entities: rows, folded and engagements of each. lineage: what it was made from."""

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
    published_at: Mapped[datetime] = mapped_column(
        DateTime
    )  # UTC; for people, nothing is decided by it


class AliasRow(Base):
    """A name for one version of an embedding that may move, such as 'latest'."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100), primary_key=True)
    version_key: Mapped[int] = mapped_column(ForeignKey("versions.key"))
    version: Mapped[VersionRow] = relationship(lazy="joined")


class Catalog:
    """Sessions on one catalog, created or migrated on opening. Raises CatalogError where that cannot be."""

    def __init__(self, url: str) -> None:
        address = _supported(url)
        self.engine = _engine(address)
        self.writer = self.engine.execution_options(writes=True)
        try:
            with _alone(address):
                _upgrade(self.engine, self.writer)
        except CatalogError:
            self.close()
            raise
        except (SQLAlchemyError, OSError) as error:
            self.close()
            cause = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
            raise CatalogError(
                f"The catalog {_masked(url)} cannot be opened: {cause}. Is the address right, and its server up?"
            ) from None

    def close(self) -> None:
        """Let go of the connections; the next use opens new ones."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent look at the catalog."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A turn at writing: alone among all processes, committed when the block ends without an exception."""
        with Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session


def _supported(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise CatalogError(
            f"{_masked(url)!r} is no catalog address. Give sqlite:////path/catalog.db or postgresql://…"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise CatalogError(f"A catalog cannot live in {_masked(url)!r}. {_ADDRESSES}")


_ADDRESSES = "Give a SQLite file (sqlite:////path/catalog.db) or PostgreSQL (postgresql://user@host/database)."


def _masked(url: str) -> str:
    """The address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url, pool_pre_ping=True)

        @event.listens_for(engine, "begin")
        def take_turn(connection):
            if connection.get_execution_options().get("writes"):
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")

        return engine

    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection, _record):
        connection.isolation_level = None  # no BEGIN of its own making: ours is below
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN"
        )

    return engine


@contextmanager
def _alone(url: URL) -> Iterator[None]:
    """Keep other processes from opening the same SQLite file meanwhile: turning WAL on waits for nobody and fails."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    with open(f"{url.database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _upgrade(engine: Engine, writer: Engine) -> None:
    """Bring the schema to HEAD, in one transaction."""
    if _revision(engine) == HEAD:
        return
    if engine.dialect.name == "sqlite":
        with closing(engine.raw_connection()) as raw:
            raw.cursor().execute(
                "PRAGMA journal_mode = WAL"
            )  # outside of a transaction; the file remembers it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with writer.begin() as connection:
        if (revision := _revision_of(connection)) is not None and revision > HEAD:
            raise CatalogError(
                f"The catalog {engine.url!r} has schema {revision}, this Evergreen knows up to {HEAD}. Upgrade it here."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return _revision_of(connection)


def _revision_of(connection) -> str | None:
    """The schema that the catalog has; None where it has none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
