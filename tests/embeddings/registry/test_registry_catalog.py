"""The catalog creates and migrates itself on opening, by several processes at once too."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from registry_parts import DAY, open_and_publish, publish
from sqlalchemy import text

from embeddings.registry.catalog import HEAD, MIGRATIONS, Base, Catalog
from embeddings.registry.client import Registry
from embeddings.registry.errors import CatalogError, RegistryError


@pytest.fixture
def catalog(url):
    with closing(Catalog(url)) as opened:
        yield opened


def test_the_migrated_schema_matches_the_models(catalog):
    with catalog.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_newest_migration_is_head():
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_opening_an_existing_catalog_keeps_its_versions(registry, root, url):
    published = publish(registry)
    with Registry(root, url) as reopened:
        assert reopened.versions("author") == [published]


def test_a_catalog_interrupted_before_its_first_migration_is_completed(catalog, url):
    """Alembic's own table exists and is empty."""
    with catalog.writer.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.execute(text("DELETE FROM alembic_version"))
    Catalog(url).close()
    with catalog.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        assert connection.execute(text("SELECT count(*) FROM versions")).scalar() == 0


def test_a_catalog_with_a_newer_schema_is_not_opened(catalog, url):
    with catalog.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    message = f"has schema 9999, but this Evergreen supports schemas up to {HEAD}. Upgrade"
    with pytest.raises(CatalogError, match=message):
        Catalog(url)


AT_0001 = """
INSERT INTO versions
    (key, name, day, revision, space, digest, dim, entities, lineage, published_at)
VALUES
    (1, 'author', '2022-04-26', 1, 's', 'a', 3, '{}', '{}', '2022-04-27 00:00:00'),
    (2, 'author', '2022-04-25', 1, 's', 'b', 3, '{}', '{}', '2022-04-27 00:00:01'),
    (3, 'author', '2022-04-25', 2, 's', 'c', 3, '{"producer": {"rows": 5}}', '{"run": "x"}',
     '2022-04-27 00:00:02'),
    (4, 'topic', '2022-04-25', 1, 's', 'd', 3, '{}', '{}', '2022-04-27 00:00:03');
INSERT INTO aliases (name, alias, version_key)
VALUES ('author', 'latest', 1), ('author', 'serving', 2), ('topic', 'latest', 4);
"""


@pytest.fixture
def catalog_0001(url) -> str:
    """The address of a catalog that an Evergreen of schema 0001 has written."""
    write_catalog(url, "0001", AT_0001)
    return url


def write_catalog(url: str, schema: str, statements: str) -> None:
    """A catalog as an Evergreen of this schema has left it."""
    with closing(Catalog(url)) as catalog, catalog.writer.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        Base.metadata.drop_all(connection)
        connection.execute(text("DELETE FROM alembic_version"))
        command.upgrade(config, schema)
        for statement in statements.strip().rstrip(";").split(";"):
            connection.exec_driver_sql(statement)
        if connection.dialect.name == "postgresql":
            # The rows above have brought their own keys.
            connection.execute(text("SELECT setval('versions_key_seq', 4)"))


def test_a_catalog_of_schema_0001_keeps_its_versions_and_aliases(catalog_0001, root):
    with Registry(root, catalog_0001) as registry:
        with registry.catalog.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, Base.metadata) == []
        versions = {version.id: version for version in registry.versions("author")}
        assert list(versions) == [f"author/2022-04-{end}" for end in ("25.r1", "25.r2", "26.r1")]
        corrected = versions["author/2022-04-25.r2"]
        assert registry.version("author", DAY) == corrected  # the last revision is current
        assert (corrected.lineage, corrected.entities["producer"]["rows"]) == ({"run": "x"}, 5)
        assert registry.version("author").id == "author/2022-04-26.r1"
        assert {version.kind for version in versions.values()} == {"embedding"}
        assert registry.aliases("author")["serving"] == versions["author/2022-04-25.r1"]
        assert registry.history("author") == registry.history("author", "latest") == []
        # Publishing goes on: revisions and publications are counted from where they were.
        first = versions["author/2022-04-25.r1"]
        registry.set_alias("author", "serving", corrected)
        assert registry.set_alias("author", "serving", first, only_forward=True) == corrected
        published = publish(registry, DAY)
        assert published.revision == 3
        assert registry.version("author", DAY) == published
        registry.remove(first)
        assert [move.alias for move in registry.history("author")] == ["serving"]


MOVE_AT_0002 = """
INSERT INTO alias_moves (name, alias, from_version, to_version, moved_at, reason)
VALUES ('author', 'serving', 'author/2022-04-25.r2', 'author/2022-04-25.r1',
        '2022-04-27 00:00:00', 'bad day')
"""


def test_a_move_of_schema_0002_has_no_mover_and_can_be_rolled_back(url, root):
    write_catalog(url, "0002", AT_0001 + MOVE_AT_0002)
    with Registry(root, url) as registry:
        (move,) = registry.history("author")
        assert (move.reason, move.moved_by) == ("bad day", "")
        assert registry.rollback("author", "serving").id == "author/2022-04-25.r2"


def test_a_reader_of_an_old_catalog_is_told_to_have_it_opened(published):
    with closing(sqlite3.connect(published / "catalog.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    answer = ask(lambda registry: registry.names(), published)
    assert f"has schema 0001, this Evergreen needs {HEAD}" in str(answer)


def test_four_processes_open_a_fresh_catalog_and_publish_at_once(processes, root, url):
    """Content that all four publish becomes one version; revisions have no gaps and no repeats."""
    barrier = processes.Barrier(4)
    running = []
    for own_seed in (1, 2, 3, 4):
        arguments = (root, url, barrier, [0, own_seed])
        process = processes.Process(target=open_and_publish, args=arguments)
        process.start()
        running.append(process)
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0, 0]
    with Registry(root, url) as registry:
        versions = registry.versions("author")
        assert sorted(version.revision for version in versions) == [1, 2, 3, 4, 5]
        assert len({version.digest for version in versions}) == 5
        assert registry.version("author") == versions[-1]
        for version in versions:
            registry.verify(version)


def test_sqlite_readers_do_not_wait_for_a_writer(plain):
    """WAL: a reader sees the last commit."""
    publish(plain)
    with plain.catalog.writing() as session:
        session.execute(text("DELETE FROM aliases"))
        assert plain.version("author").day == DAY
        session.rollback()


def test_a_reader_sees_one_state_while_others_publish(registry):
    publish(registry)
    count = text("SELECT count(*) FROM versions")
    with registry.catalog.reading() as session:
        assert session.execute(count).scalar() == 1
        publish(registry, seed=1)
        assert session.execute(count).scalar() == 1
    assert len(registry.versions("author")) == 2


def test_another_database_is_rejected_without_its_password():
    message = r"'mysql://u:\*\*\*@h/d' cannot hold a catalog\. Use a SQLite file .* or PostgreSQL"
    with pytest.raises(CatalogError, match=message):
        Catalog("mysql://u:secret@h/d")


def test_a_catalog_in_memory_is_rejected():
    with pytest.raises(CatalogError, match="cannot hold a catalog. Use a SQLite file"):
        Catalog("sqlite://")


def test_a_malformed_url_is_rejected_without_its_password():
    with pytest.raises(CatalogError, match="is not a catalog address") as refused:
        Catalog("postgres:u:secret@host")
    assert "secret" not in str(refused.value)


def test_an_unreachable_server_is_named_without_its_password():
    with pytest.raises(CatalogError, match="127.0.0.1:1/d.* is its server running") as refused:
        Catalog("postgresql://u:secret@127.0.0.1:1/d")
    assert "secret" not in str(refused.value)


@pytest.fixture
def published() -> Iterator[Path]:
    """The root of a registry with one version, which any user may read and only its owner write."""
    # Not below tmp_path, whose parents only root may enter.
    root = Path(tempfile.mkdtemp(prefix="evergreen-readers-"))
    with Registry(root, f"sqlite:///{root / 'catalog.db'}") as registry:
        publish(registry)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(root)


def as_reader(question: Callable[[Registry], object], root: Path, answers) -> None:
    """Run in a process of its own: root may write everything, so it becomes another user."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        with Registry(root, f"sqlite:///{root / 'catalog.db'}") as registry:
            answers.put(question(registry))
    except RegistryError as error:
        answers.put(f"{type(error).__name__}: {error}")


def ask(question: Callable[[Registry], object], root: Path) -> object:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=as_reader, args=(question, root, answers))
    process.start()
    answer = answers.get(timeout=60)
    process.join()
    return answer


def test_a_user_who_may_only_read_can_ask(published):
    def vectors(registry: Registry) -> object:
        return registry.get("author", "producer", ["p1"]).vectors.tolist()

    found = ask(vectors, published)
    with Registry(published, f"sqlite:///{published / 'catalog.db'}") as registry:
        assert found == vectors(registry)


def test_a_user_who_may_only_read_sees_what_an_open_writer_publishes(published):
    """The writer is connected, so SQLite's shared memory exists."""
    for path in (published, published / "catalog.db", published / "versions"):
        path.chmod(0o755)
    with Registry(published, f"sqlite:///{published / 'catalog.db'}") as writer:
        publish(writer, day=date(2030, 1, 1))
        for path in (published, *published.glob("catalog.db*")):
            path.chmod(0o555)
        days = ask(lambda registry: [v.day for v in registry.versions("author")], published)
    assert days[-1] == date(2030, 1, 1)


def test_a_user_who_may_only_read_cannot_write_and_learns_why(published):
    def move(registry: Registry) -> object:
        return registry.set_alias("author", "serving", registry.version("author"))

    assert "can only be read by this user" in str(ask(move, published))


def test_a_disk_that_may_not_be_written_is_named_and_the_registry_is_as_it_was(published):
    before = sorted(published.rglob("*"))
    answer = str(ask(lambda registry: publish(registry, seed=1), published))
    assert f"NotWritten: author/{DAY} is not published, and nothing of it is left" in answer
    assert f"below {published / 'versions'}: Permission denied. Free some space" in answer
    assert sorted(published.rglob("*")) == before
