"""The PostgreSQL server that `database.url = "local"` starts, once for all tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.local.databases import connected
from jobs.local.postgres import PostgresError, programs
from jobs.local.services import database_server
from jobs.settings import DatabaseSettings, ServiceSettings, Settings
from jobs.settings.database import passfile
from tests.one_row_home import home_settings
from tests.ports import reserve_port


@pytest.fixture(scope="session")
def local_server() -> Iterator[Settings]:
    """The settings of a home whose server runs."""
    try:
        programs()
    except PostgresError as error:
        pytest.skip(str(error))
    # Not below pytest's folder, which only its owner may enter: root's server is another user's.
    home = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    home.chmod(0o711)
    settings = home_settings(
        home,
        database=DatabaseSettings(url="local"),
        services=ServiceSettings(database_port=reserve_port()),
    )
    with database_server(settings):
        with connected(settings) as connection:
            # Nothing is to survive these tests, and flushing many new databases takes long.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield settings
    shutil.rmtree(home)


@pytest.fixture
def server_url(local_server, monkeypatch) -> str:
    """The address of the same server, as that of a server elsewhere; its password is in a file."""
    monkeypatch.setenv("PGPASSFILE", str(passfile(local_server.home)))
    return f"postgresql://evergreen@127.0.0.1:{local_server.services.database_port}"
