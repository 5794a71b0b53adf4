"""The daily loop on a PostgreSQL server of its own, and a backup that is made while it runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from small_home import running_home

from jobs.local.backup import backup, restore
from jobs.local.databases import connected
from jobs.local.demo import follow
from jobs.local.postgres import CONNECTIONS, PostgresError, programs
from jobs.local.services import database_server
from jobs.pipeline.loop import run_days
from jobs.pipeline.verify import verify
from jobs.settings import Settings, days_between
from tests.digests import differences, digests
from tests.ports import reserve_port
from tests.small_logs import DAYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ZERO = DAYS[0] - timedelta(days=1)
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's folder, which only its owner may enter: the server may be another user."""
    try:
        programs()
    except PostgresError as error:
        pytest.skip(str(error))
    created = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    created.chmod(0o711)
    yield created
    shutil.rmtree(created)


def backup_once_published(settings: Settings, to: Path) -> int:
    """Back up as soon as a day is published, while others run; returns how many days that were."""
    while not settings.lake.days("publish"):
        time.sleep(0.1)
    n_published = len(settings.lake.days("publish"))
    backup(settings, to, print)
    return n_published


def test_the_loop_publishes_what_it_does_on_sqlite_and_its_backup_is_whole(folder):
    """A run without Airflow on SQLite publishes the same digests."""
    port = reserve_port()
    more = f'database_port = {port}\n[database]\nurl = "local"\n'
    with running_home(folder, more) as (settings, airflow, supervisor):
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(backup_once_published, settings, folder / "backup")
            assert follow(airflow, supervisor, days_between(ZERO, DAYS[1])).failures == []
            n_published = made.result(60)
        with connected(settings) as connection:
            (n_connections,) = connection.execute(OPEN).fetchone()
        assert n_connections < CONNECTIONS

    other = settings.model_copy(
        update={
            "home": folder / "restored",
            "services": settings.services.model_copy(update={"database_port": reserve_port()}),
        }
    )
    restore(other, folder / "backup", print)
    with database_server(other):
        assert verify(other) == []
        with other.open_registry() as registry:
            versions = registry.versions("author")
            assert len(versions) >= n_published > 0
            vectors = registry.load(versions[0]).entities["producer"].vectors
            assert np.isfinite(vectors).all()

    plain = settings.model_copy(
        update={
            "home": folder / "sqlite",
            "database": type(settings.database)(),
            "mlflow": settings.mlflow.model_copy(update={"uri": "off"}),
        }
    )
    board, _ = run_days(plain, ZERO, DAYS[1])
    assert not board.failed()
    # Where no registry answers, `consistency` has compared nothing over HTTP, and says so.
    differing = differences(settings.home, plain.home)
    assert {line.partition("/")[0] for line in differing} == {"consistency"}
    assert digests(other.home).items() < digests(settings.home).items()
