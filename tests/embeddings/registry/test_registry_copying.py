"""A catalog that moves to another database, in both directions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from registry_parts import DAY, publish
from sqlalchemy import text

from embeddings.benchmarks.results import Result
from embeddings.registry import copying
from embeddings.registry.catalog import Catalog
from embeddings.registry.client import Registry
from embeddings.registry.copying import copy_catalog
from embeddings.registry.errors import CatalogError


def fill(registry: Registry) -> None:
    """Two days, a revision, results, aliases with a history, a verification, a removed version."""
    first = publish(registry)
    newer = publish(registry, seed=1)
    publish(registry, DAY + timedelta(days=1), seed=2, name="topic", note="é € 雪")
    judged = Result("topics", "auc", DAY, 0.1 + 0.2, 1e-300, 0.7, 12, {"popularity": 1 / 3}, 2)
    registry.add_results(first, [judged])
    registry.set_alias("author", "serving", first, reason="the first")
    registry.set_alias("author", "serving", newer, reason="better")
    list(registry.verify_all())
    doomed = publish(registry, DAY - timedelta(days=1), seed=3)
    registry.remove(doomed)


def state(registry: Registry) -> list[object]:
    """What a reader can ask for."""
    found: list[object] = []
    for name in registry.names():
        versions = registry.versions(name)
        found += [versions, registry.aliases(name), registry.history(name)]
        found += [registry.results(version) for version in versions]
        found.append(registry.verifications(name))
    return found


def test_a_copied_catalog_answers_alike_and_goes_on(registry, root, other_url):
    fill(registry)
    copy_catalog(registry.catalog, other_url)
    with Registry(root, other_url) as copied:
        assert state(copied) == state(registry)
        # Further rows get further numbers, and a day's next revision is its next one.
        assert publish(copied, seed=4).id == publish(registry, seed=4).id == f"author/{DAY}.r3"
        rolled_back = copied.rollback("author", "serving", reason="as before")
        assert rolled_back == registry.rollback("author", "serving", reason="as before")


def test_a_catalog_with_other_rows_is_not_copied_over(registry, root, other_url):
    """One with the same rows stays as it is, so that a move that failed later can be repeated."""
    publish(registry)
    counts = copy_catalog(registry.catalog, other_url)
    assert copy_catalog(registry.catalog, other_url) == counts
    publish(registry, seed=1)
    with pytest.raises(CatalogError, match="has rows in the table '.*' already; expected an empty"):
        copy_catalog(registry.catalog, other_url)


def test_a_difference_is_found_and_nothing_is_left(plain, tmp_path, monkeypatch):
    """A row that arrives otherwise than it was sent: the copy is taken back as a whole."""
    fill(plain)
    number_on = copying.number_on

    def spoil(target, table):
        if table.name == "benchmarks":
            target.execute(text("UPDATE benchmarks SET value = value * (1 + 1e-15)"))
        number_on(target, table)

    monkeypatch.setattr(copying, "number_on", spoil)
    file = tmp_path / "copy.db"
    with pytest.raises(CatalogError, match="table 'benchmarks' has 1 rows .* or other values"):
        copy_catalog(plain.catalog, f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            rows = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
            assert rows == 0 or table == "alembic_version"


def test_the_command_counts_what_it_has_copied(run, plain, tmp_path):
    publish(plain)
    file = tmp_path / "copy.db"
    result = run("copy-catalog", "--to", f"sqlite:///{file}")
    assert result.exit_code == 0, result.output
    assert ["versions", "1", "rows"] in [line.split() for line in result.output.splitlines()]
    with closing(Catalog(f"sqlite:///{file}")) as catalog, catalog.reading() as session:
        assert session.execute(text("SELECT count(*) FROM versions")).scalar() == 1
