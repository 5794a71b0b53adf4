"""Registries to test on, in SQLite and in a PostgreSQL server started for the tests."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import typer
from registry_parts import TOKEN
from typer.testing import CliRunner

from embeddings.registry.client import Registry
from embeddings.registry.commands import app
from embeddings.registry.service import create_app
from tests.http_server import serving


@pytest.fixture(scope="session")
def processes():
    """Starts real processes that have already imported the registry."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["embeddings.registry.client", "registry_parts"])
    return context


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """A temporary PostgreSQL server; the folder of its Unix socket. It opens no TCP port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(programs[-1]) if programs else shutil.which("initdb")
    if not initdb:
        pytest.skip("PostgreSQL's initdb is not installed: run `apt-get install postgresql`")
    home = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    as_user = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(home, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def call(program: str, *options: str) -> None:
        command = [*as_user, str(Path(initdb).parent / program), "-D", str(home / "data"), *options]
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL)

    call("initdb", "-U", "evergreen", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
    server_options = f"-k {home} -c listen_addresses='' -c fsync=off"
    call("pg_ctl", "-w", "-l", str(home / "log"), "-o", server_options, "start")
    yield home
    call("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(home)


def postgres_url(socket_folder: Path, **options: str) -> str:
    query = urlencode({"host": str(socket_folder), **options})
    return f"postgresql://evergreen@/postgres?{query}"


def fresh_schema(socket_folder: Path) -> str:
    """The address of an empty schema: a database per test would cost 7 MB and a second."""
    import psycopg

    schema = f"catalog_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url(socket_folder), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return postgres_url(socket_folder, options=f"-csearch_path={schema}")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """The address of a catalog that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry' / 'catalog.db'}"
    return fresh_schema(request.getfixturevalue("postgres"))


@pytest.fixture
def other_url(request, url, tmp_path) -> str:
    """The same in the other kind of database than `url`."""
    if url.startswith("postgresql"):
        return f"sqlite:///{tmp_path / 'other.db'}"
    return fresh_schema(request.getfixturevalue("postgres"))


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root, url) -> Iterator[Registry]:
    """A registry on either kind of catalog."""
    with Registry(root, url) as opened:
        yield opened


@pytest.fixture
def plain(root) -> Iterator[Registry]:
    """A registry in SQLite, for tests that are not about the catalog."""
    with Registry(root, f"sqlite:///{root / 'catalog.db'}") as opened:
        yield opened


@pytest.fixture
def service(root, plain) -> Iterator[str]:
    """The address of a running service on the plain registry."""
    with serving(create_app(root, f"sqlite:///{root / 'catalog.db'}", TOKEN)) as address:
        yield address


@pytest.fixture
def run(plain):
    """Run `evergreen registry ARGUMENTS`; returns the result with exit code, stdout and stderr."""
    evergreen = typer.Typer()
    evergreen.add_typer(app, name="registry")

    @evergreen.callback()
    def main(ctx: typer.Context) -> None:
        ctx.obj = lambda: plain

    def invoke(*arguments: str, columns: int = 200):  # so that no cell of a table is wrapped
        narrow_or_wide = {"COLUMNS": str(columns)}
        return CliRunner().invoke(evergreen, ["registry", *arguments], env=narrow_or_wide)

    return invoke
