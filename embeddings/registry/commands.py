"""`evergreen registry …`: the registry from a shell.

The command line that mounts `app` sets the context's object to a function that opens the registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from embeddings.lookalike import SUMMARIES
from embeddings.registry import comparison, responses
from embeddings.registry.client import Registry
from embeddings.registry.errors import BadRequest, DamagedVersion, RegistryError
from embeddings.registry.files import REMEDY
from embeddings.registry.versions import LATEST

SHOWN_NUMBERS = 6  # of a vector, in a table with many


class RegistryCommands(TyperGroup):
    """Commands that report a RegistryError by its message and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RegistryError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=RegistryCommands,
    no_args_is_help=True,
    add_completion=False,
    help="Inspect the registry: embeddings, versions, vectors.",
)

Name = Annotated[str, typer.Argument(help="Name of the embedding, as `list` shows it.")]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="For example serving.")]
Day = Annotated[
    str, typer.Option(help="A day (2022-04-25), one revision of it (2022-04-25.r1), or an alias.")
]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")]
Key = Annotated[str, typer.Argument(metavar="ENTITY:ID", help="For example producer:1196.")]
Keys = Annotated[
    list[str], typer.Argument(metavar="ENTITY:ID", help="One or more, for example producer:1196.")
]


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the embeddings.  Example: evergreen registry list"""
    embeddings = responses.overview(_registry(ctx))
    if as_json:
        return _print_json(embeddings)
    columns = ("name", "versions", "first day", "latest", "dim", "consumers", "producers")
    rows = map(_overview_row, embeddings)
    return _print_table(columns, rows, "" if embeddings else "Nothing is published yet.")


@app.command()
def versions(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """List the versions of an embedding.  Example: evergreen registry versions author"""
    described = responses.versions(_registry(ctx), name)
    if as_json:
        return _print_json(described)
    columns = ("version", "current", "alias", "dim", "consumers", "folded", "producers", "digest")
    # Several, in order of first use, if a day had nothing in common with those before it.
    spaces = dict.fromkeys(version["space"] for version in described)
    caption = f"of {name} in space {', then '.join(spaces)}"
    return _print_table(columns, map(_version_row, described), caption)


@app.command()
def show(ctx: typer.Context, name: Name, day: Day = LATEST, as_json: Json = False) -> None:
    """Show one version and its lineage.

    Example: evergreen registry show author --day 2022-04-25
    """
    registry = _registry(ctx)
    version = registry.find(name, day)
    described = responses.detail(registry, version)
    described["path"] = str(version.path)
    if as_json:
        return _print_json(described)
    return _print_table(("fact", "value"), _flat(described), header=False)


@app.command()
def get(
    ctx: typer.Context, name: Name, keys: Keys, day: Day = LATEST, as_json: Json = False
) -> None:
    """Print vectors and the engagements behind them.

    Example: evergreen registry get author producer:1196 consumer:42
    """
    registry = _registry(ctx)
    found = responses.vectors(registry, registry.find(name, day), keys)
    if as_json:
        return _print_json(found)
    rows = []
    for record in found["vectors"]:
        key = f"{record['entity']}:{record['id']}"
        vector = _numbers(record["vector"], SHOWN_NUMBERS)
        rows.append((key, record["count"], _origin(record), vector))
    return _print_table(("id", "engagements", "origin", "vector"), rows, _source(found))


@app.command()
def neighbours(
    ctx: typer.Context,
    name: Name,
    key: Key,
    k: Annotated[int, typer.Option("--k", help="How many to print.")] = 10,
    among: Annotated[
        str | None, typer.Option(help="The entity to search; by default that of ENTITY:ID.")
    ] = None,
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Print the nearest vectors by cosine.

    Example: evergreen registry neighbours author producer:1196 --k 5
    """
    registry = _registry(ctx)
    found = responses.neighbours(registry, registry.find(name, day), key, k, among)
    if as_json:
        return _print_json(found)
    rows = []
    for neighbour in found["neighbours"]:
        neighbour_key = f"{found['among']}:{neighbour['id']}"
        score = f"{neighbour['score']:.4f}"
        rows.append((neighbour_key, score, neighbour["count"], _origin(neighbour)))
    columns = ("neighbour", "cosine", "engagements", "origin")
    return _print_table(columns, rows, f"of {key}, {_source(found)}")


@app.command("fold-in")
def fold_in(
    ctx: typer.Context,
    name: Name,
    history: Annotated[
        list[str],
        typer.Argument(metavar="PRODUCER=STRENGTH", help="One or more, for example 1196=3.5."),
    ],
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Compute a vector for a new consumer from a history.

    Example: evergreen registry fold-in author 1196=3 33=1
    """
    registry = _registry(ctx)
    strengths = dict(map(_strength, history))
    folded = responses.fold_in(registry, registry.find(name, day), strengths)
    if as_json:
        return _print_json(folded)
    caption = f"{_source(folded)}; from {folded['known']} interactions"
    if folded["unknown"]:
        caption += f"; unknown and left out: {', '.join(folded['unknown'])}"
    return _print_table(("vector",), [(_numbers(folded["vector"]),)], caption)


@app.command()
def lookalike(
    ctx: typer.Context,
    name: Name,
    group: Annotated[
        list[str], typer.Option(help="COLUMN=VALUE of a profile; may be given several times.")
    ],
    candidate: Annotated[
        list[str] | None,
        typer.Option(help="A producer to score, may be repeated; by default the best ones."),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="How many to print if no candidate is given.")] = 10,
    by: Annotated[
        str, typer.Option(help=f"Rank by {', '.join(SUMMARIES)} over the groups.")
    ] = "mean",
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Score producers for a consumer of whom only groups are known.

    Example: evergreen registry lookalike author --group user_active_degree=full_active
    """
    registry = _registry(ctx)
    version = registry.find(name, day)
    scored = responses.lookalike(registry, version, group, candidate or [], k, by)
    if as_json:
        return _print_json(scored)
    rows = []
    for producer in scored["producers"]:
        scores = [f"{producer[summary]:.4g}" for summary in SUMMARIES]
        rows.append((producer["id"], *scores))
    groups = [f"{count:,} consumers of {group}" for group, count in scored["groups"].items()]
    caption = f"dot products with the mean of {', '.join(groups)}; {_source(scored)}"
    return _print_table(("producer", *SUMMARIES), rows, caption)


@app.command()
def benchmarks(
    ctx: typer.Context,
    references: Annotated[
        list[str],
        typer.Argument(metavar="NAME[/VERSION]…", help="Embeddings, or versions of them."),
    ],
    markdown: Annotated[bool, typer.Option(help="Print a Markdown table.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Also save a picture, as a PNG file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the benchmarks of embeddings, each metric on one day for all.

    Example: evergreen registry benchmarks author topic --picture table1.png
    """
    compared = comparison.compare(_registry(ctx), references)
    if picture:
        comparison.draw(compared, picture)
    if as_json:
        return _print_json(responses.comparison(compared))
    if markdown:
        return typer.echo(compared.markdown())
    return _print_table(*compared.table(), caption="± half a 95 % interval")


@app.command()
def alias(
    ctx: typer.Context,
    name: Name,
    alias: Alias,
    day: Annotated[
        str | None, typer.Option(help="Where it shall point: a day, a revision or an alias.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it instead.")] = False,
    reason: Annotated[str, typer.Option(help="Kept in the history of the alias.")] = "",
) -> None:
    """Point an alias at a version, or delete it. A version with an alias cannot be removed.

    Example: evergreen registry alias author serving --day 2022-04-25 --reason "bad log"
    """
    registry = _registry(ctx)
    if delete == (day is not None):
        raise BadRequest("Give either --day, to point the alias at a version, or --delete.")
    if day is None:
        registry.delete_alias(name, alias, reason)
        return typer.echo(f"{alias} of {name} is deleted")
    version = registry.set_alias(name, alias, registry.find(name, day), reason=reason)
    return typer.echo(f"{alias} of {name} points at {version.id}")


@app.command()
def history(
    ctx: typer.Context,
    name: Name,
    alias: Annotated[str | None, typer.Option(help="Only this alias.")] = None,
    as_json: Json = False,
) -> None:
    """List the moves of the aliases, newest first.

    Example: evergreen registry history author --alias latest
    """
    moves = responses.history(_registry(ctx), name, alias)
    if as_json:
        return _print_json(moves)
    rows = []
    for move in moves:
        versions = (move["from_version"] or "none", move["to_version"] or "none")
        rows.append((move["moved_at"], move["alias"], *versions, move["reason"]))
    columns = ("when", "alias", "from", "to", "reason")
    return _print_table(columns, rows, "" if moves else "No move is recorded yet.")


@app.command()
def verify(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Name of the embedding; without it, verify everything.")
    ] = None,
    day: Day = LATEST,
    as_json: Json = False,
) -> None:
    """Compare a version's files, or those of all versions, with their published digests.

    Example: evergreen registry verify author
    """
    registry = _registry(ctx)
    if name is None:
        return _verify_all(registry, as_json)
    version = registry.find(name, day)
    digests = registry.verify(version)
    if as_json:
        return _print_json({"version": version.id, "files": digests})
    caption = f"{version.id}: all {len(digests)} files are unchanged since publication"
    return _print_table(("file", "sha256"), digests.items(), caption)


def _verify_all(registry: Registry, as_json: bool) -> None:
    """Print one line per version as soon as it is verified. Exits with 1 if one is damaged."""
    damaged = {}
    verified = 0
    for version, faults in registry.verify_all():
        verified += 1
        if faults:
            damaged[version] = faults
        if not as_json:
            typer.echo(f"{version}: {', '.join(faults) or 'unchanged'}")
    if as_json:
        _print_json({"versions": verified, "damaged": damaged})
    elif not damaged:
        typer.echo(f"All {verified} versions are unchanged since publication.")
    if damaged:
        raise DamagedVersion(f"{len(damaged)} of {verified} versions are damaged. {REMEDY}")


def _registry(ctx: typer.Context) -> Registry:
    """The registry, opened by the function that the mounting command line has set."""
    return ctx.obj()


def _strength(text: str) -> tuple[str, float]:
    """'1196=3.5' -> ('1196', 3.5). Raises BadRequest."""
    # Split at the last '=', because the id may contain one.
    producer, _, strength = text.rpartition("=")
    try:
        return producer, float(strength)
    except ValueError:
        raise BadRequest(f"{text!r} is not PRODUCER=STRENGTH; write it as in 1196=3.5.") from None


def _overview_row(embedding: dict[str, Any]) -> tuple:
    latest = embedding["latest"]
    return (
        embedding["name"],
        embedding["versions"],
        embedding["first_day"],
        _reference(latest),
        latest["dim"],
        f"{_counts(latest, 'consumer')['rows']:,}",
        f"{_counts(latest, 'producer')['rows']:,}",
    )


def _version_row(version: dict[str, Any]) -> tuple:
    consumers = _counts(version, "consumer")
    producers = _counts(version, "producer")
    folded_share = consumers["folded"] / max(consumers["rows"], 1)
    return (
        _reference(version),
        "yes" if version["current"] else "replaced",
        ", ".join(version["aliases"]),
        version["dim"],
        f"{consumers['rows']:,}",
        f"{folded_share:.0%}",
        f"{producers['rows']:,}",
        version["digest"][:12],
    )


def _reference(version: dict[str, Any]) -> str:
    """The version within its embedding, as --day takes it: 2022-04-25.r1."""
    return version["id"].removeprefix(f"{version['name']}/")


def _counts(version: dict[str, Any], entity: str) -> dict[str, int]:
    """The rows of an entity and how many were folded in; zeros if the version does not have it."""
    return version["entities"].get(entity, {"rows": 0, "folded": 0})


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested dictionary as rows: ("lineage.facts.matrix.rows", "27285")."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)


def _origin(record: dict[str, Any]) -> str:
    return "folded in" if record["folded"] else "fitted"


def _numbers(vector: list[float], most: int | None = None) -> str:
    """The first `most` numbers of a vector; by default all of them."""
    shown = " ".join(f"{x:.4f}" for x in vector[:most])
    if most is not None and len(vector) > most:
        shown += f" … ({len(vector)} numbers; --json prints all)"
    return shown


def _source(response: dict[str, Any]) -> str:
    return f"{response['version']} in space {response['space']}"


def _print_json(value: Any) -> None:
    # Not printed with Rich, which would wrap long lines in the middle of a value.
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_table(
    columns: Iterable[str], rows: Iterable[Iterable[Any]], caption: str = "", header: bool = True
) -> None:
    table = Table(*columns, show_header=header)
    for row in rows:
        # Text, not str: Rich would read an id such as [red] as markup. Folded, not cut off.
        cells = [Text(str(cell), overflow="fold") for cell in row]
        table.add_row(*cells)
    console = Console()
    if table.row_count:
        console.print(table)
    if caption:
        console.print(Text(caption))
