"""A backup is of one moment, while others publish and delete; a restored home is whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs.lake.store import Lake
from jobs.local import backup as backups
from jobs.local import dumps, postgres
from jobs.local.backup import BackupError, backup, manifests_at_one_moment, restore
from jobs.local.databases import connected, create_missing, own_databases
from jobs.local.dumps import DumpError
from jobs.local.environment import home_secrets
from jobs.pipeline import garbage
from jobs.pipeline.verify import verify
from jobs.settings import DatabaseSettings, MLflowSettings, Settings, StorageSettings
from tests.digests import differences, digests
from tests.embeddings.registry.registry_parts import publish
from tests.one_row_home import home_settings

DAY = date(2022, 4, 25)


def commit(lake: Lake, step: str, day: date, text: str) -> None:
    """A partition of one small file."""
    with lake.writing(step, day, recipe="r") as staging:
        (staging.path / "rows.txt").write_text(text)


def fill(settings: Settings) -> None:
    """Two days of a lake, three versions, an artifact, a report, secrets."""
    for number in range(2):
        day = DAY + timedelta(days=number)
        commit(settings.lake, "matrix", day, f"matrix {number}")
        commit(settings.lake, "publish", day, f"publish {number}")
        with settings.open_registry() as registry:
            publish(registry, day, seed=number)
    with settings.open_registry() as registry:
        registry.set_alias("author", "serving", registry.version("author", DAY), reason="why not")
    for file in ("mlflow/artifacts/1/model.bin", "reports/matrix/page.html"):
        path = settings.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    home_secrets(settings.home)


@pytest.fixture
def settings_file(tmp_path, monkeypatch) -> Path:
    file = tmp_path / "my.toml"
    file.write_text('[source]\nkind = "edgelist"\npath = "log.txt"\n')
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def homes(request, tmp_path, settings_file) -> tuple[Settings, Settings]:
    """A filled home, and the settings of one that does not exist yet."""
    found = []
    for name in ("filled", "restored"):
        sections = {"mlflow": MLflowSettings(uri="off")}
        if request.param == "postgresql":
            prefix = f"{name}_{os.getpid()}"
            url = request.getfixturevalue("server_url")
            sections["database"] = DatabaseSettings(url=url, prefix=prefix)
        found.append(home_settings(tmp_path / name, **sections))
    filled, restored = found
    if request.param == "postgresql":
        create_missing(filled)
    fill(filled)
    return filled, restored


def test_a_restored_home_is_whole_and_answers_alike(homes, tmp_path):
    filled, restored = homes
    backup(filled, tmp_path / "backup", print)
    restore(restored, tmp_path / "backup", print)
    assert differences(filled.home, restored.home) == []
    assert len(digests(restored.home)) == 6
    assert verify(restored) == []
    with filled.open_registry() as ours, restored.open_registry() as theirs:
        assert theirs.history("author") == ours.history("author")
        wanted = ours.get("author", "producer", ["p1"], day=DAY).vectors
        assert theirs.get("author", "producer", ["p1"], day=DAY).vectors.tolist() == wanted.tolist()
    assert home_secrets(restored.home) == home_secrets(filled.home)
    assert (restored.home / "secrets.json").stat().st_mode & 0o777 == 0o600
    for file in ("mlflow/artifacts/1/model.bin", "reports/matrix/page.html"):
        assert (restored.home / file).read_text() == file


@pytest.fixture
def plain(tmp_path, settings_file) -> tuple[Settings, Settings]:
    """The same in SQLite, for tests that are not about the database."""
    off = {"mlflow": MLflowSettings(uri="off")}
    filled = home_settings(tmp_path / "filled", **off)
    fill(filled)
    return filled, home_settings(tmp_path / "restored", **off)


def test_publishing_goes_on_and_deleting_waits(plain, tmp_path):
    """Published after the catalog was read: not in the backup. Deleted then: in it, whole."""
    filled, restored = plain
    later = DAY + timedelta(days=9)
    with filled.open_registry() as registry:
        publish(registry, DAY + timedelta(days=5), seed=7)
        doomed = publish(registry, DAY + timedelta(days=4), seed=6)
    old = filled.lake.get("matrix", DAY)
    found = garbage.Garbage(DAY, [old], [doomed], [], [], [])
    deleting = threading.Thread(target=garbage.delete, args=(filled, found))
    ended = []

    def meanwhile(line: str) -> None:
        if line.startswith("registry"):
            commit(filled.lake, "matrix", later, "later")
            with filled.open_registry() as registry:
                publish(registry, later, seed=9)
            deleting.start()
        if deleting.ident:
            time.sleep(0.1)
            ended.append(not deleting.is_alive())

    backup(filled, tmp_path / "backup", meanwhile)
    deleting.join(30)
    assert len(ended) > 3
    assert not any(ended)
    assert filled.lake.find("matrix", DAY) is None

    restore(restored, tmp_path / "backup", print)
    assert verify(restored) == []
    assert restored.lake.days("matrix") == [DAY, DAY + timedelta(days=1)]
    with restored.open_registry() as registry:
        days = [version.day for version in registry.versions("author")]
    assert doomed.day in days
    assert later not in days


def test_the_manifests_are_those_of_one_moment(settings, monkeypatch):
    """A step commits between two readings: they are read again."""
    read = backups.signatures
    commit(settings.lake, "matrix", DAY, "one")
    calls = []

    def reading(lake):
        calls.append(lake)
        if len(calls) == 2:
            commit(settings.lake, "embed", DAY, "two")
        return read(lake)

    monkeypatch.setattr(backups, "signatures", reading)
    found = manifests_at_one_moment(settings.home / "lake")
    assert sorted(path.parent.parent.name for path in found) == ["embed", "matrix"]
    assert len(calls) == 4


def test_a_lake_that_never_rests_is_named(settings, monkeypatch):
    moments = iter(range(10_000))
    monkeypatch.setattr(backups, "signatures", lambda lake: {Path("/dev/null"): [next(moments)]})
    with pytest.raises(BackupError, match="Steps commit to .*/lake without a pause"):
        manifests_at_one_moment(settings.home / "lake")


def test_a_full_disk_leaves_nothing(plain, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "rows.txt")

    monkeypatch.setattr(backups, "copy_lake", full)
    with pytest.raises(BackupError, match=r"No space left on device \(rows.txt\)"):
        backup(plain[0], tmp_path / "backup", print)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*backup*"))


def test_a_folder_that_exists_is_refused(plain, tmp_path):
    with pytest.raises(BackupError, match="exists already. Name a folder that does not"):
        backup(plain[0], tmp_path, print)


def test_a_home_that_is_used_is_not_restored_over(plain, tmp_path):
    filled, _ = plain
    backup(filled, tmp_path / "backup", print)
    before = digests(filled.home)
    with pytest.raises(BackupError, match="lake exists already. Restore into a home of its own"):
        restore(filled, tmp_path / "backup", print)
    assert digests(filled.home) == before


def test_what_is_no_backup_is_refused(plain, tmp_path):
    with pytest.raises(BackupError, match="is no backup: it has no backup.json"):
        restore(plain[1], tmp_path, print)


def test_a_backup_in_sqlite_is_not_restored_to_a_server(plain, tmp_path):
    """Nothing is written before that is known."""
    filled, restored = plain
    backup(filled, tmp_path / "backup", print)
    server = DatabaseSettings(url="postgresql://me@127.0.0.1:1")
    other = restored.model_copy(update={"database": server})
    with pytest.raises(DumpError, match="'registry' of the backup is of sqlite, .* postgresql"):
        restore(other, tmp_path / "backup", print)
    assert digests(other.home) == {}


def test_a_backup_is_private(plain, tmp_path):
    backup(plain[0], tmp_path / "backup", print)
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    assert (tmp_path / "backup" / "settings.toml").stat().st_mode & 0o077 == 0


def test_a_password_is_no_argument_of_a_program(tmp_path, monkeypatch):
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PGPASSWORD" "$@" > {tmp_path}/words\n')
    program.chmod(0o700)
    monkeypatch.setattr(dumps, "client", lambda name: str(program))
    for address in ("me:hunter%402@db/c?sslmode=require", "me@db/c?password=hunter%402"):
        dumps.dump(f"postgresql+psycopg://{address}", tmp_path / "catalog")
        password, *words = (tmp_path / "words").read_text().splitlines()
        assert password == "hunter@2"
        assert words[-1].startswith("--dbname=postgresql://me@db/c")
        assert "hunter" not in " ".join(words)


def test_the_newest_program_is_taken_with_or_without_a_server(tmp_path, monkeypatch):
    for version, names in {"15": ("initdb", "pg_dump"), "99": ("pg_dump",)}.items():
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}.4'\n")
            (folder / name).chmod(0o700)
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    assert postgres.client("pg_dump") == str(tmp_path / "99" / "bin" / "pg_dump")
    assert postgres.programs() == tmp_path / "15" / "bin"
    with pytest.raises(postgres.PostgresError, match="pg_nothing is not installed here"):
        postgres.client("pg_nothing")


def test_what_has_lost_its_files_is_named(plain, tmp_path):
    filled, _ = plain
    shutil.rmtree(filled.lake.get("matrix", DAY).folder)
    with pytest.raises(BackupError, match=f"matrix/day={DAY} has lost .*evergreen verify --repair"):
        backup(filled, tmp_path / "backup", print)


def test_a_restore_that_fails_can_be_repeated(homes, tmp_path, monkeypatch):
    filled, restored = homes
    fresh = restored.database.model_copy(update={"prefix": f"again_{os.getpid()}"})
    restored = restored.model_copy(update={"database": fresh})
    backup(filled, tmp_path / "backup", print)
    undump = backups.undump

    def broken(address, source, kind):
        if source.name != "registry":
            raise DumpError("pg_restore failed: gone")
        undump(address, source, kind)

    facts = tmp_path / "backup" / "backup.json"
    known = json.loads(facts.read_text())
    kind = known["databases"]["registry"]
    facts.write_text(json.dumps({**known, "databases": {"registry": kind, "tuning": kind}}))
    monkeypatch.setattr(backups, "undump", broken)
    with pytest.raises(BackupError, match="cannot be restored: pg_restore failed: gone") as failed:
        restore(restored, tmp_path / "backup", print)
    monkeypatch.setattr(backups, "undump", undump)
    assert digests(restored.home) == {}
    facts.write_text(json.dumps(known))
    if kind == "postgresql":
        name = restored.database.named("registry")
        assert f"Drop the databases {name} before you restore again" in str(failed.value)
        with connected(restored) as connection:
            connection.execute(f"DROP DATABASE {name}")
    restore(restored, tmp_path / "backup", print)
    assert verify(restored) == []


def test_a_bucket_below_home_is_refused(plain, tmp_path):
    ours = StorageSettings(url="s3://evergreen/home", endpoint="http://127.0.0.1:1", serve=True)
    with pytest.raises(BackupError, match="home/store: stop the services and copy home"):
        backup(plain[0].model_copy(update={"storage": ours}), tmp_path / "backup", print)


def test_a_new_home_with_a_bucket_is_restored_to_that_bucket_only(
    plain, tmp_path, store_servers, monkeypatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    _, new = plain
    endpoint = store_servers("seaweedfs").endpoint
    bucket = StorageSettings(url=f"s3://evergreen/{tmp_path.name}", endpoint=endpoint)
    with_bucket = new.model_copy(update={"storage": bucket})
    backup(with_bucket, tmp_path / "backup", print)
    with pytest.raises(
        BackupError, match=f"storage.url = '{bucket.url}', and the settings have ''"
    ):
        restore(plain[0], tmp_path / "backup", print)


def test_what_refers_to_others_is_dumped_before_them(settings):
    """The catalog names runs; runs name nothing that is dumped before."""
    assert list(own_databases(settings)) == ["registry", "mlflow", "airflow", "tuning"]
