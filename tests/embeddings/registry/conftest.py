"""Registries to test on: in SQLite and in a real PostgreSQL of our own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import uvicorn
from registry_parts import TOKEN, free_port
from typer.testing import CliRunner

from embeddings.registry.client import Registry
from embeddings.registry.commands import app
from embeddings.registry.service import create_app


@pytest.fixture(scope="session")
def processes():
    """Real processes that have imported the registry already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["embeddings.registry.client", "registry_parts"])
    return context


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A throw-away PostgreSQL on loopback; the address of its server, without a database."""
    import psycopg

    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(programs[-1]) if programs else shutil.which("initdb")
    if not found:
        pytest.skip(
            "PostgreSQL's initdb is not installed here: `apt-get install postgresql` to run this"
        )
    bin_ = Path(found).parent
    home = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    port = free_port()
    as_user = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(home, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def call(*command: str | Path) -> None:
        subprocess.run(
            [*as_user, *map(str, command)], check=True, cwd=home, stdout=subprocess.DEVNULL
        )

    data = home / "data"
    call(
        bin_ / "initdb",
        "-D",
        data,
        "-U",
        "evergreen",
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
    )
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(bin_ / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
    server = f"postgresql://evergreen@127.0.0.1:{port}"
    with psycopg.connect(f"{server}/postgres"):
        pass
    yield server
    call(bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(home)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """The address of a catalog that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry' / 'catalog.db'}"
    import psycopg

    server, schema = request.getfixturevalue("postgres"), f"catalog_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(
            f"CREATE SCHEMA {schema}"
        )  # a database each would cost 7 MB and a second
    return f"{server}/postgres?options=-csearch_path%3D{schema}"


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root, url) -> Iterator[Registry]:
    """A registry on either catalog."""
    with Registry(root, url) as opened:
        yield opened


@pytest.fixture
def plain(root) -> Iterator[Registry]:
    """A registry in SQLite, where the catalog is not what is tested."""
    with Registry(root, f"sqlite:///{root / 'catalog.db'}") as opened:
        yield opened


@pytest.fixture
def service(root, plain) -> Iterator[str]:
    """The address of a running service on the plain registry."""
    port = free_port()
    served = create_app(root, f"sqlite:///{root / 'catalog.db'}", TOKEN)
    server = uvicorn.Server(uvicorn.Config(served, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the service did not start within 20 s"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def run(plain):
    """Run `evergreen registry ARGUMENTS`; returns the result with exit code, stdout and stderr."""
    whole = typer.Typer()
    whole.add_typer(app, name="registry")

    @whole.callback()
    def main(ctx: typer.Context) -> None:
        ctx.obj = lambda: plain

    return lambda *arguments: CliRunner().invoke(
        whole, ["registry", *arguments], env={"COLUMNS": "200"}
    )
