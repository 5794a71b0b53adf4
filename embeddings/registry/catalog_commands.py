"""The command of `evergreen registry` that copies the catalog."""

from __future__ import annotations

from typing import Annotated

import typer

from embeddings.registry.command_parts import registry_of
from embeddings.registry.copying import copy_catalog as copied


def copy_catalog(
    ctx: typer.Context,
    to: Annotated[str, typer.Option(help="Address of an empty catalog, SQLite or PostgreSQL.")],
) -> None:
    """Copy the catalog to another database, and compare every row. The files stay where they are.

    Stop whoever publishes before, and name the copy in registry.url afterwards.
    Example: evergreen registry copy-catalog --to postgresql://evergreen@localhost/catalog
    """
    for table, rows in copied(registry_of(ctx).catalog, to).items():
        typer.echo(f"{table:<16} {rows} rows")
