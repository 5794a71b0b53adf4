"""What `evergreen doctor` says of the databases: reachable, recent, in UTF-8, and ours to write?"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from jobs.local.databases import OLDEST, DatabaseError, connected, databases, server_version
from jobs.local.finding import Finding
from jobs.local.postgres import PostgresError, data_folder, programs, user
from jobs.settings import Settings


def check_databases(settings: Settings) -> Iterator[Finding]:
    """One finding for the server, and one for each of its databases with a fault."""
    if not settings.database.url:
        yield Finding("databases", "SQLite files below home")
    elif settings.database.is_local:
        yield local_server(settings)
    else:
        yield from server(settings)


def local_server(settings: Settings) -> Finding:
    """Are there programs of PostgreSQL, and a user who may run them on this home?"""
    try:
        folder = programs()
        owner = user()
    except PostgresError as error:
        found, _, remedy = str(error).partition(". ")
        return Finding("databases", found, "missing", remedy)
    asked = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True)
    version = asked.stdout.removeprefix("postgres (PostgreSQL)").strip() or "?"
    found = f"PostgreSQL {version} of {folder}, as {owner.pw_name}"
    if os.getuid() == 0:
        for parent in data_folder(settings.home).parents:
            if parent.exists() and not parent.stat().st_mode & 0o001:
                remedy = f"Run chmod o+x {parent}, choose another home, or do not run as root."
                return Finding(
                    "databases", f"{found}, who may not enter {parent}", "missing", remedy
                )
    return Finding("databases", found)


def server(settings: Settings) -> Iterator[Finding]:
    """The server that the settings name, and what is wrong with our databases on it."""
    try:
        with connected(settings) as connection:
            version = server_version(connection)
        found = databases(settings)
    except DatabaseError as error:
        problem, _, remedy = str(error).partition(". ")
        yield Finding("databases", problem, "missing", remedy)
        return
    if int(version.split(".")[0]) < OLDEST:
        remedy = f"Airflow needs PostgreSQL {OLDEST} or newer."
        yield Finding("databases", f"PostgreSQL {version}", "missing", remedy)
    names = [f"{one.name}{'' if one.exists else ' (to be created)'}" for one in found]
    yield Finding("databases", f"PostgreSQL {version}: {', '.join(names)}")
    for one in found:
        if one.problem:
            yield Finding("databases", one.problem, "missing", one.remedy)
