"""The catalog opens itself, on SQLite and PostgreSQL, whoever else opens it at the same moment."""

from __future__ import annotations

from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from registry_parts import DAY, open_and_publish, publish
from sqlalchemy import text

from embeddings.registry.catalog import HEAD, MIGRATIONS, Base, Catalog
from embeddings.registry.client import Registry
from embeddings.registry.errors import CatalogError


@pytest.fixture
def catalog(url):
    with closing(Catalog(url)) as opened:
        yield opened


def test_the_migrations_lead_to_what_the_models_say(catalog):
    with catalog.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_last_migration_is_the_one_the_catalog_asks_for():
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_opening_an_existing_catalog_keeps_what_is_in_it(registry, root, url):
    published = publish(registry)
    with Registry(root, url) as reopened:
        assert reopened.versions("author") == [published]


def test_a_catalog_stopped_before_its_first_migration_is_completed(catalog, url):
    """Alembic's own table is there, and empty."""
    with catalog.writer.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.execute(text("DELETE FROM alembic_version"))
    Catalog(url).close()
    with catalog.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        assert connection.execute(text("SELECT count(*) FROM versions")).scalar() == 0


def test_a_catalog_of_a_newer_evergreen_is_left_alone(catalog, url):
    with catalog.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        CatalogError, match=f"has schema 9999, this Evergreen knows up to {HEAD}. Upgrade"
    ):
        Catalog(url)


def test_four_processes_open_a_fresh_catalog_and_publish_at_once(processes, root, url):
    """One version of what all publish, one of each that is a process's own, and revisions without gap or repeat."""
    barrier = processes.Barrier(4)
    arguments = [(root, url, barrier, [0, own]) for own in (1, 2, 3, 4)]
    running = [processes.Process(target=open_and_publish, args=args) for args in arguments]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0, 0]
    with Registry(root, url) as registry:
        versions = registry.versions("author")
        assert [version.revision for version in versions] == [1, 2, 3, 4, 5]
        assert len({version.digest for version in versions}) == 5
        assert registry.version("author") == versions[-1]
        for version in versions:
            registry.verify(version)


def test_sqlite_lets_readers_read_while_one_writes(plain):
    """WAL: the reader sees what was committed and does not wait."""
    publish(plain)
    with plain.catalog.writing() as session:
        session.execute(text("DELETE FROM aliases"))
        assert plain.version("author").day == DAY
        session.rollback()


def test_a_url_of_another_kind_is_refused():
    with pytest.raises(
        CatalogError, match=r"cannot live in 'mysql://u:\*\*\*@h/d'.*SQLite.*PostgreSQL"
    ):
        Catalog("mysql://u:secret@h/d")


def test_a_catalog_in_memory_is_refused():
    with pytest.raises(CatalogError, match="Give a SQLite file"):
        Catalog("sqlite://")


def test_what_is_no_url_is_refused_without_telling_its_password():
    with pytest.raises(CatalogError, match="no catalog address") as refused:
        Catalog("postgres:u:secret@host")
    assert "secret" not in str(refused.value)


def test_a_server_that_is_down_is_named_without_its_password():
    with pytest.raises(CatalogError, match="127.0.0.1:1/d.* its server up") as refused:
        Catalog("postgresql://u:secret@127.0.0.1:1/d")
    assert "secret" not in str(refused.value)
