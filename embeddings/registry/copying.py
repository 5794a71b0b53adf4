"""All rows of a database in another one, such as a catalog that moves from SQLite to PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text

from embeddings.registry.catalog import Base, Catalog
from embeddings.registry.errors import CatalogError

CHUNK = 1000  # rows read and written at once


def copy_catalog(source: Catalog, url: str) -> dict[str, int]:
    """Copy a catalog to an address, completely or not at all; returns the rows of each table.

    What is published meanwhile may not be in the copy: stop the services before. The files of the
    versions stay where they are. Raises CatalogError where the target has other rows, or where it
    does not have the same rows afterwards.
    """
    tables = Base.metadata.sorted_tables
    with (
        closing(Catalog(url)) as target,
        source.reading() as reading,
        target.writing() as writing,
    ):
        return copy_tables(reading.connection(), writing.connection(), tables)


def copy_tables(source: Connection, target: Connection, tables: Sequence[Table]) -> dict[str, int]:
    """Copy all rows of these tables; returns how many there are of each.

    tables: as both databases have them, each after those it refers to. A target that has all these
    rows already, from an earlier call, stays as it is. Raises CatalogError where it has other rows,
    or not the same ones afterwards: the caller then rolls back.
    """
    used = [table for table in tables if target.execute(select(table).limit(1)).first() is not None]
    counts = {}
    if used:
        for table in tables:
            wanted = rows_digest(source, table)
            if wanted != rows_digest(target, table):
                raise CatalogError(
                    f"{target.engine.url!r} has rows in the table '{used[0].name}' already; "
                    "expected an empty database. Name another one, or drop this one and create it "
                    "again."
                )
            counts[table.name] = wanted[0]
        return counts
    for table in tables:
        for rows in chunks(source, table):
            target.execute(insert(table), rows)
        number_on(target, table)
        counts[table.name] = require_equal(source, target, table)
    return counts


def chunks(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table, so many at once that any number fits into memory."""
    rows = select(table).execution_options(yield_per=CHUNK)
    with connection.execute(rows) as result:
        for part in result.mappings().partitions():
            yield [dict(row) for row in part]


def number_on(target: Connection, table: Table) -> None:
    """Let PostgreSQL number further rows after those that have brought their own numbers."""
    if target.dialect.name != "postgresql":
        return  # SQLite takes the number after the largest
    for column in table.primary_key.columns:
        named = {"table": f'"{table.name}"', "column": column.name}
        sequence = target.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), named)
        name = sequence.scalar()
        largest = target.execute(select(func.max(column))).scalar() if name else None
        if largest is not None:
            target.execute(
                text("SELECT setval(:name, :largest)"), {"name": name, "largest": largest}
            )


def require_equal(source: Connection, target: Connection, table: Table) -> int:
    """How many rows both have. Raises CatalogError where they are not the same."""
    wanted, written = rows_digest(source, table), rows_digest(target, table)
    if wanted != written:
        raise CatalogError(
            f"The table '{table.name}' has {written[0]} rows in {target.engine.url!r} and "
            f"{wanted[0]} in {source.engine.url!r}, or other values in them. Nothing is copied."
        )
    return wanted[0]


def rows_digest(connection: Connection, table: Table) -> tuple[int, int]:
    """The number of rows, and a digest of all their values, in whatever order they come."""
    total = 0
    count = 0
    for rows in chunks(connection, table):
        for row in rows:
            values = json.dumps(row, sort_keys=True, default=repr).encode()
            # A sum, because two databases order texts in different ways.
            total += int.from_bytes(hashlib.sha256(values).digest(), "big")
            count += 1
    return count, total % 2**256
