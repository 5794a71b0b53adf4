"""One database in a file, at one moment: a copy of a SQLite file, or what `pg_dump` writes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from jobs.errors import EvergreenError
from jobs.local.databases import create_missing
from jobs.local.postgres import client
from jobs.settings import Settings
from jobs.settings.addresses import libpq_address, without_password

SUFFIXES = {"sqlite": ".db", "postgresql": ".dump"}


class DumpError(EvergreenError):
    """A database that cannot be dumped or restored; the message has the reason."""


def kind_of(address: str) -> str:
    return make_url(address).get_backend_name()


def sqlite_file(address: str) -> Path:
    return Path(make_url(address).database or "")


def dump(address: str, to: Path) -> str:
    """Write a database to a file, as it is at one moment; others go on writing.

    to: without a suffix. Returns its kind, "" where a SQLite file does not exist yet. Raises
    DumpError.
    """
    kind = kind_of(address)
    file = to.with_name(to.name + SUFFIXES[kind])
    if kind == "postgresql":
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}"]
        run("pg_dump", address, options)
        return kind
    source = sqlite_file(address)
    if not source.exists():
        return ""
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(file)) as writing:
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    return kind


def require_empty(settings: Settings, name: str, address: str, kind: str) -> None:
    """Raise DumpError where a dump of this kind cannot be restored to an address.

    A missing database on the server of `database.url` is created.
    """
    if kind_of(address) != kind:
        raise DumpError(
            f"The database '{name}' of the backup is of {kind}, and the settings name "
            f"{kind_of(address)}. Restore with the database.url and registry.url that it was made "
            "with; `evergreen databases move` then moves SQLite files to a server."
        )
    if kind == "sqlite":
        if sqlite_file(address).exists():
            raise DumpError(f"{sqlite_file(address)} exists already: move it away first.")
        return
    if settings.database.url:
        create_missing(settings)
    with psycopg.connect(libpq_address(address)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
        ).fetchone()
        database = connection.info.dbname
    if row is not None and row[0]:
        raise DumpError(
            f"The database {database} has {row[0]} tables already. Drop it, or choose another "
            "database.prefix."
        )


def undump(address: str, source: Path, kind: str) -> None:
    """Restore what `dump` has written, completely or not at all. Raises DumpError."""
    file = source.with_name(source.name + SUFFIXES[kind])
    if kind == "postgresql":
        options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        run("pg_restore", address, options, str(file))
        return
    target = sqlite_file(address)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.restored")
    shutil.copyfile(file, draft)
    os.rename(draft, target)


def run(program: str, address: str, options: list[str], *files: str) -> None:
    """Run a program of PostgreSQL; the password is in its environment, where `ps` has it not."""
    bare, password = without_password(libpq_address(address))
    words = [client(program), *options, f"--dbname={bare}", *files]
    variables = os.environ | ({"PGPASSWORD": password} if password else {})
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    if done.returncode != 0:
        raise DumpError(f"{program} failed: {done.stderr.strip() or 'without a message'}")
