"""Commands about features: what is known of an id, and tables of one's own."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from embeddings.registry import responses
from embeddings.registry.command_parts import Json, Space, counts, reference, registry_of
from embeddings.registry.errors import BadRequest
from embeddings.registry.feature_files import ID, read_table
from embeddings.registry.tables import MISSING, feature, print_json, print_table


def features(
    ctx: typer.Context,
    entity: Annotated[str | None, typer.Argument(help="For example consumer.")] = None,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="One or more.")] = None,
    named_features: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            metavar="NAME[.COLUMN][@VERSION]",
            help="A column of a table, or an embedding for its vectors; may be repeated.",
        ),
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="A day; nothing later is read.")] = None,
    space: Space = None,
    as_json: Json = False,
) -> None:
    """Print features of any kind, joined; without ids, list the tables of features.

    Example: evergreen registry features consumer 42 7 --feature profile.register_days
    """
    registry = registry_of(ctx)
    if entity is None:
        return _print_feature_tables(responses.tables(registry), as_json)
    joined = registry.features(entity, ids or [], named_features or [], as_of, space)
    found = responses.features(joined)
    if as_json:
        return print_json(found)
    rows = []
    for row in found["rows"]:
        for name, value in row["features"].items():
            rows.append((f"{entity}:{row['id']}", name, feature(value)))
    sources = [f"{name} from {one['version']}" for name, one in found["sources"].items()]
    caption = "\n".join(sources)
    return print_table(("id", "feature", "value"), rows, caption, whole=("id", "feature"))


def _print_feature_tables(tables: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return print_json(tables)
    rows = []
    for table in tables:
        latest, entity = table["latest"], table["entity"]
        count = counts(latest, entity)["rows"]
        names = MISSING if table["columns"] is None else "\n".join(table["columns"])
        rows.append((table["name"], reference(latest), entity, f"{count:,}", names))
    columns = ("table", "latest", "entity", "rows", "features")
    caption = "" if tables else "No table of features is published yet."
    return print_table(columns, rows, caption, whole=("table", "latest", "entity", "features"))


def publish_features(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the table, for example called.")],
    entity: Annotated[str, typer.Argument(help="For example producer.")],
    file: Annotated[Path, typer.Argument(help="CSV with a header line, or Parquet.")],
    id_column: Annotated[str, typer.Option("--id", help="The file's column of ids.")] = ID,
    number: Annotated[
        list[str] | None,
        typer.Option(help="A column of a CSV file that holds numbers; may be repeated."),
    ] = None,
    day: Annotated[
        str | None, typer.Option(help="The day from which on it is known; by default today.")
    ] = None,
) -> None:
    """Publish a table of features of your own. Pages show its column `name` beside ids.

    Example: evergreen registry publish-features called producer names.csv
    """
    ids, columns = read_table(file, id_column, number or [])
    known_from = parsed_day(day) if day else date.today()
    lineage = {"file": file.name}
    version = registry_of(ctx).publish_features(name, known_from, entity, ids, columns, lineage)
    typer.echo(f"{version.id}: {len(ids):,} rows of {', '.join(columns)}")


def parsed_day(text: str) -> date:
    """Raises BadRequest."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{text!r} is no day; write it as in 2022-04-25.") from None
