"""`evergreen registry …`: what is in the registry, asked from a shell.

The command line that mounts `app` sets the context's object to a function that opens the registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from embeddings.lookalike import SUMMARIES
from embeddings.registry import responses as answers
from embeddings.registry.client import Registry
from embeddings.registry.errors import BadRequest, RegistryError
from embeddings.registry.versions import LATEST


class Told(TyperGroup):
    """A group whose commands end with one message, not a traceback, when the registry says no."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RegistryError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Told,
    no_args_is_help=True,
    add_completion=False,
    help="Look into the registry: embeddings, versions, vectors.",
)

Name = Annotated[str, typer.Argument(help="Name of the embedding, as `list` shows it.")]
Day = Annotated[
    str, typer.Option(help="A day (2022-04-25), one revision of it (2022-04-25.r1), or an alias.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, all of it, for programs.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the embeddings.  Example: evergreen registry list"""
    found = answers.overview(_registry(ctx))
    if as_json:
        return _print_json(found)
    columns = ("name", "versions", "first day", "latest", "dim", "consumers", "producers")
    return _print_table(
        columns, map(_overview_row, found), "" if found else "Nothing is published yet."
    )


@app.command()
def versions(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """List the versions of an embedding.  Example: evergreen registry versions author"""
    registry = _registry(ctx)
    aliases = registry.aliases(name)
    found = [answers.describe(version, aliases) for version in registry.versions(name)]
    if as_json:
        return _print_json(found)
    columns = ("version", "alias", "dim", "consumers", "folded", "producers", "digest")
    spaces = dict.fromkeys(version["space"] for version in found)
    return _print_table(
        columns, map(_version_row, found), "of " + name + " in space " + ", then ".join(spaces)
    )


@app.command()
def show(ctx: typer.Context, name: Name, day: Day = LATEST, as_json: Json = False) -> None:
    """Show one version and its lineage.  Example: evergreen registry show author --day 2022-04-25"""
    registry = _registry(ctx)
    version = registry.find(name, day)
    described = {**answers.describe(version, registry.aliases(name)), "path": str(version.path)}
    if as_json:
        return _print_json(described)
    return _print_table(("fact", "value"), _flat(described), header=False)


@app.command()
def get(
    ctx: typer.Context,
    name: Name,
    who: Annotated[
        list[str], typer.Argument(help="entity:id, as in producer:1196; several are fine.")
    ],
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Print vectors and what they rest on.  Example: evergreen registry get author producer:1196 consumer:42"""
    registry = _registry(ctx)
    found = answers.vectors(registry, registry.find(name, day), who)
    if as_json:
        return _print_json(found)
    rows = (
        (f"{v['entity']}:{v['id']}", v["count"], _folded(v), _vector(v["vector"]))
        for v in found["vectors"]
    )
    return _print_table(("id", "engagements", "how", "vector"), rows, _source(found))


@app.command()
def neighbours(
    ctx: typer.Context,
    name: Name,
    who: Annotated[str, typer.Argument(help="entity:id, as in producer:1196.")],
    k: Annotated[int, typer.Option("--k", help="How many to print.")] = 10,
    among: Annotated[
        str | None, typer.Option(help="The entity to search; by default that of WHO.")
    ] = None,
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Print the nearest vectors by cosine.  Example: evergreen registry neighbours author producer:1196 --k 5"""
    registry = _registry(ctx)
    found = answers.neighbours(registry, registry.find(name, day), who, k, among)
    if as_json:
        return _print_json(found)
    rows = (
        (f"{found['among']}:{n['id']}", f"{n['score']:.4f}", n["count"], _folded(n))
        for n in found["neighbours"]
    )
    return _print_table(
        ("neighbour", "cosine", "engagements", "how"), rows, f"of {who}, {_source(found)}"
    )


@app.command("fold-in")
def fold_in(
    ctx: typer.Context,
    name: Name,
    history: Annotated[
        list[str], typer.Argument(help="PRODUCER=STRENGTH, as in 1196=3.5; several are fine.")
    ],
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Make a vector for a new consumer from a history.  Example: evergreen registry fold-in author 1196=3 33=1"""
    registry = _registry(ctx)
    found = answers.fold_in(registry, registry.find(name, day), dict(map(_strength, history)))
    if as_json:
        return _print_json(found)
    left_out = f"; unknown and left out: {', '.join(found['unknown'])}" if found["unknown"] else ""
    caption = f"{_source(found)}; from {found['known']} interactions{left_out}"
    return _print_table(("vector",), [(_vector(found["vector"], len(found["vector"])),)], caption)


@app.command()
def lookalike(
    ctx: typer.Context,
    name: Name,
    group: Annotated[list[str], typer.Option(help="COLUMN=VALUE of a profile; several are fine.")],
    candidate: Annotated[
        list[str] | None,
        typer.Option(help="A producer to score; several are fine, none: the best."),
    ] = None,
    k: Annotated[
        int, typer.Option("--k", help="How many to print, where no candidate is named.")
    ] = 10,
    by: Annotated[
        str, typer.Option(help=f"What ranks them: {', '.join(SUMMARIES)} over the groups.")
    ] = "mean",
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Score producers for a newcomer by the groups they belong to.

    Example: evergreen registry lookalike author --group user_active_degree=full_active --candidate 123
    """
    registry = _registry(ctx)
    found = answers.lookalike(registry, registry.find(name, day), group, candidate or [], k, by)
    if as_json:
        return _print_json(found)
    rows = ((p["id"], *(f"{p[feature]:.4g}" for feature in SUMMARIES)) for p in found["producers"])
    behind = ", ".join(f"{count:,} consumers of {its}" for its, count in found["groups"].items())
    return _print_table(
        ("producer", *SUMMARIES), rows, f"dot products with the mean of {behind}; {_source(found)}"
    )


@app.command()
def verify(ctx: typer.Context, name: Name, day: Day = LATEST, as_json: Json = False) -> None:
    """Compare a version's files with their published digests.  Example: evergreen registry verify author"""
    registry = _registry(ctx)
    version = registry.find(name, day)
    digests = registry.verify(version)
    if as_json:
        return _print_json({"version": version.id, "files": digests})
    return _print_table(
        ("file", "sha256"),
        digests.items(),
        f"{version.id}: all {len(digests)} files are as published",
    )


def _registry(ctx: typer.Context) -> Registry:
    return ctx.obj()


def _strength(text: str) -> tuple[str, float]:
    producer, _, strength = text.rpartition("=")
    try:
        return producer, float(strength)
    except ValueError:
        raise BadRequest(f"{text!r} is no PRODUCER=STRENGTH; write it as 1196=3.5.") from None


def _overview_row(entry: dict[str, Any]) -> tuple:
    latest = entry["latest"]
    rows = (f"{entity['rows']:,}" for entity in _entities(latest))
    return (
        entry["name"],
        entry["versions"],
        entry["first_day"],
        _reference(latest),
        latest["dim"],
        *rows,
    )


def _version_row(version: dict[str, Any]) -> tuple:
    consumer, producer = _entities(version)
    share = consumer["folded"] / consumer["rows"] if consumer["rows"] else 0.0
    rows = (f"{consumer['rows']:,}", f"{share:.0%}", f"{producer['rows']:,}")
    shown = (_reference(version), ", ".join(version["aliases"]), version["dim"])
    return (*shown, *rows, version["digest"][:12])


def _reference(version: dict[str, Any]) -> str:
    """The version within its embedding, as --day takes it: 2022-04-25.r1."""
    return version["id"].removeprefix(f"{version['name']}/")


def _entities(version: dict[str, Any]) -> list[dict[str, int]]:
    return [
        version["entities"].get(entity, {"rows": 0, "folded": 0})
        for entity in ("consumer", "producer")
    ]


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """A nested dictionary as lines: lineage.facts.matrix.rows, 27285."""
    if not isinstance(value, dict):
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{name}.{key}" if name else key)


def _folded(record: dict[str, Any]) -> str:
    return "folded in" if record["folded"] else "fitted"


def _vector(vector: list[float], most: int = 6) -> str:
    more = f" … ({len(vector)} numbers; --json prints all)" if len(vector) > most else ""
    return " ".join(f"{x:.4f}" for x in vector[:most]) + more


def _source(found: dict[str, Any]) -> str:
    return f"{found['version']} in space {found['space']}"


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_table(
    columns: Iterable[str], rows: Iterable[Iterable[Any]], caption: str = "", header: bool = True
) -> None:
    """Print a table; cells are plain text, whatever brackets an id has."""
    table, console = Table(*columns, show_header=header), Console()
    for row in rows:
        table.add_row(*(Text(str(cell), overflow="fold") for cell in row))
    if table.row_count:
        console.print(table)
    if caption:
        console.print(Text(caption))
