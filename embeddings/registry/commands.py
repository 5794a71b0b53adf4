"""`evergreen registry …`: the registry from a shell.

The command line that mounts `app` sets the context's object to a function that opens the registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from embeddings.lookalike import SUMMARIES
from embeddings.registry import (
    catalog_commands,
    comparison,
    feature_commands,
    filters,
    responses,
)
from embeddings.registry.catalog import HEAD
from embeddings.registry.client import Registry
from embeddings.registry.command_parts import (
    Alias,
    Day,
    Dim,
    Json,
    Key,
    Keys,
    Name,
    Reason,
    RegistryCommands,
    Space,
    VersionId,
    counts,
    reference,
    registry_of,
)
from embeddings.registry.errors import BadRequest, DamagedVersion
from embeddings.registry.files import REMEDY, folded_entity, shown_entity
from embeddings.registry.sizes import readable
from embeddings.registry.tables import (
    MISSING,
    SHOWN_NUMBERS,
    numbers,
    print_json,
    print_table,
)
from embeddings.registry.versions import LATEST

ENTITY = ("consumer", "producer")  # in tables
ENTITIES = ("consumers", "producers")  # as their columns are headed


app = typer.Typer(
    cls=RegistryCommands,
    no_args_is_help=True,
    add_completion=False,
    help="Inspect the registry: embeddings, versions, vectors.",
)
app.command()(feature_commands.features)
app.command("publish-features")(feature_commands.publish_features)
app.command("copy-catalog")(catalog_commands.copy_catalog)


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the embeddings.  Example: evergreen registry list"""
    embeddings = responses.overview(registry_of(ctx))
    if as_json:
        return print_json(embeddings)
    columns = ("name", "versions", "first day", "latest", "dim", "consumers", "producers")
    rows = map(_overview_row, embeddings)
    caption = "" if embeddings else "Nothing is published yet."
    return print_table(columns, rows, caption, whole=("name", "first day", "latest"))


@app.command()
def versions(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """List the versions of an embedding.  Example: evergreen registry versions author"""
    described = responses.versions(registry_of(ctx), name)
    if as_json:
        return print_json(described)
    columns = ("version", "status", *ENTITIES, "folded", "covered", "size", "verified")
    # Several, in order of first use, if a day had nothing in common with those before it.
    spaces = dict.fromkeys(version["space"] for version in described)
    caption = f"of {name} in space {', then '.join(spaces)}"
    dims = dict.fromkeys(version["dim"] for version in described)
    caption += f"; vectors of {', then '.join(map(str, dims))} numbers"
    for version in described:
        if version["faults"]:
            caption += f"\n{version['id']} is damaged: {', '.join(version['faults'])}"
    rows = map(_version_row, described)
    return print_table(columns, rows, caption, whole=("version", "status", "covered", "verified"))


@app.command()
def show(ctx: typer.Context, name: Name, day: Day = LATEST, as_json: Json = False) -> None:
    """Show one version and its lineage.

    Example: evergreen registry show author --day 2022-04-25
    """
    registry = registry_of(ctx)
    version = registry.find(name, day)
    described = responses.detail(registry, version)
    described["path"] = str(version.folder)
    if as_json:
        return print_json(described)
    return print_table(("fact", "value"), _flat(described), header=False)


@app.command()
def get(
    ctx: typer.Context,
    name: Name,
    keys: Keys,
    day: Day = LATEST,
    space: Space = None,
    dim: Dim = None,
    as_json: Json = False,
) -> None:
    """Print vectors and the engagements behind them.

    Example: evergreen registry get author producer:1196 consumer:42
    """
    registry = registry_of(ctx)
    found = responses.vectors(registry, registry.find(name, day), keys, space, dim)
    if as_json:
        return print_json(found)
    rows = []
    for record in found["vectors"]:
        key = f"{record['entity']}:{record['id']}"
        vector = numbers(record["vector"], SHOWN_NUMBERS)
        rows.append((key, record["count"], _origin(record), vector))
    columns = ("id", "engagements", "origin", "vector")
    return print_table(columns, rows, _source(found), whole=("id",))


@app.command()
def neighbours(
    ctx: typer.Context,
    name: Name,
    key: Key,
    k: Annotated[int, typer.Option("--k", help="How many to print.")] = 10,
    among: Annotated[
        str | None, typer.Option(help="The entity to search; by default that of ENTITY:ID.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="An id to search, may be repeated; by default all.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME.COLUMN=VALUE",
            help="What neighbours must be by a published feature: a text, a number, or a range as "
            "in 7..30; may be repeated.",
        ),
    ] = None,
    day: Day = LATEST,
    space: Space = None,
    dim: Dim = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Search every vector, also where there is an index.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the nearest vectors by cosine.

    Example: evergreen registry neighbours author producer:1196 --k 5
    """
    registry = registry_of(ctx)
    version = registry.find(name, day)
    conditions = filters.parsed(where or [])
    found = responses.neighbours(
        registry, version, key, k, among, space, dim, only or None, exact, conditions
    )
    if as_json:
        return print_json(found)
    caption = f"of {key}, {_source(found)}"
    if where:
        caption += f"; only those with {' and '.join(where)}"
    if not found["exact"]:
        caption += f"; by an index that finds {found['recall']['at_10']:.1%} of the 10 nearest"
    return _print_neighbours(found["among"], found["neighbours"], caption)


def _print_neighbours(entity: str, neighbours: list[dict[str, Any]], caption: str) -> None:
    rows = []
    for neighbour in neighbours:
        key = f"{entity}:{neighbour['id']}"
        score = f"{neighbour['score']:.4f}"
        rows.append((key, score, neighbour["count"], _origin(neighbour)))
    columns = ("neighbour", "cosine", "engagements", "origin")
    print_table(columns, rows, caption, whole=("neighbour",))


@app.command("fold-in")
def fold_in(
    ctx: typer.Context,
    name: Name,
    history: Annotated[
        list[str],
        typer.Argument(metavar="PRODUCER=STRENGTH", help="One or more, for example 1196=3.5."),
    ],
    k: Annotated[
        int | None, typer.Option("--k", help="Also print that many of the nearest producers.")
    ] = None,
    day: Day = LATEST,
    space: Space = None,
    dim: Dim = None,
    as_json: Json = False,
) -> None:
    """Compute a vector for a new consumer from a history.

    Example: evergreen registry fold-in author 1196=3 33=1
    """
    registry = registry_of(ctx)
    strengths = dict(map(_strength, history))
    folded = responses.fold_in(registry, registry.find(name, day), strengths, k, space, dim)
    if as_json:
        return print_json(folded)
    print_table(("vector",), [(numbers(folded["vector"]),)], _folded_from(folded))
    if folded["neighbours"]:
        entity = folded_entity(registry.find(name, day).entities)
        _print_neighbours(entity, folded["neighbours"], "nearest to the vector")
    return None


def _folded_from(folded: dict[str, Any]) -> str:
    """What a folded vector is based on."""
    caption = f"{_source(folded)}; from {folded['known']} interactions"
    if folded["residual"] is not None:
        caption += f", of which it leaves {folded['residual']:.2f} unexplained"
    if folded["unknown"]:
        caption += f"; unknown and left out: {', '.join(folded['unknown'])}"
    return caption


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
    space: Space = None,
    dim: Dim = None,
    as_json: Json = False,
) -> None:
    """Score producers for a consumer of whom only groups are known.

    Example: evergreen registry lookalike author --group user_active_degree=full_active
    """
    registry = registry_of(ctx)
    version = registry.find(name, day)
    scored = responses.lookalike(registry, version, group, candidate or [], k, by, space, dim)
    if as_json:
        return print_json(scored)
    rows = []
    for producer in scored["producers"]:
        scores = [f"{producer[summary]:.4g}" for summary in SUMMARIES]
        rows.append((producer["id"], *scores))
    groups = [f"{count:,} consumers of {group}" for group, count in scored["groups"].items()]
    caption = f"dot products with the mean of {', '.join(groups)}; {_source(scored)}"
    return print_table(("producer", *SUMMARIES), rows, caption, whole=("producer",))


@app.command()
def diff(ctx: typer.Context, a: VersionId, b: VersionId, as_json: Json = False) -> None:
    """Print what differs between two versions, and what the second one gains.

    Example: evergreen registry diff author/2022-04-24 author/2022-04-25
    """
    registry = registry_of(ctx)
    versions = [registry.find(*responses.named(text)) for text in (a, b)]
    found = responses.diff(registry.diff(*versions))
    if as_json:
        return print_json(found)
    print_table((), (), f"a: {found['a']}\nb: {found['b']}\n")
    _print_entities(found["entities"])
    _print_gains(found["benchmarks"])
    rows = []
    for field, change in found["lineage"].items():
        of_both = [(of, value) for of, value in change.items() if value is not None]
        rows += [(field, of, _flat_text(value)) for of, value in of_both]
    typer.echo()
    return print_table(("lineage", "of", "value"), rows, whole=("of",))


def _print_entities(entities: dict[str, Any]) -> None:
    """Who came and who left, and how far vectors moved."""
    rows = []
    notes: dict[str, None] = {}  # each once, in order
    for entity, one in entities.items():
        drift = one["drift"] or {}
        moved = [_share(drift.get("mean")), _share(drift.get("p10")), _share(one["overlap"])]
        rows.append((entity, one["common"], one["gained"], one["lost"], *moved))
        for change in ("gained", "lost"):
            if one[change]:
                more = " …" if one[change] > len(one[f"{change}_ids"]) else ""
                notes[f"{change} {entity}: {', '.join(one[f'{change}_ids'])}{more}"] = None
        if drift:
            moved_most = [f"{each['id']} ({each['cosine']:.3f})" for each in drift["moved"]]
            notes[f"moved most, {entity}: {', '.join(moved_most)}"] = None
        if one["drift_reason"]:
            notes[f"no cosine: {one['drift_reason']}"] = None
    columns = ("entity", "common", "gained", "lost", "cosine", "10th percentile", "overlap@10")
    print_table(columns, rows, "\n".join(notes), whole=("entity",))


def _print_gains(benchmarks: list[dict[str, Any]]) -> None:
    rows = []
    for delta in benchmarks:
        a, b, gain = delta["a"], delta["b"], delta["gain"]
        labels = a["on"] if a["on"] == b["on"] else "own day"
        values = (f"{a['value']:.3f}", f"{b['value']:.3f}", f"{gain['value']:+.3f}")
        interval = f"{gain['low']:+.3f} to {gain['high']:+.3f}"
        rows.append((delta["name"].replace("_", " "), labels, *values, interval))
    columns = ("benchmark", "labels of", "a", "b", "gain", "95 % interval")
    typer.echo()
    print_table(columns, rows, whole=columns[1:])


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


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
    compared = comparison.compare(registry_of(ctx), references)
    if picture:
        comparison.draw(compared, picture)
    if as_json:
        return print_json(responses.comparison(compared))
    if markdown:
        return typer.echo(compared.markdown())
    columns = ("benchmark", "labels of", "of", "value", "best baseline")
    return print_table(columns, compared.lines(), "± half a 95 % interval", whole=columns[:4])


@app.command()
def alias(
    ctx: typer.Context,
    name: Name,
    alias: Alias,
    day: Annotated[
        str | None, typer.Option(help="Where it shall point: a day, a revision or an alias.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it instead.")] = False,
    reason: Reason = "",
) -> None:
    """Point an alias at a version, or delete it. A version with an alias cannot be removed.

    Example: evergreen registry alias author serving --day 2022-04-25 --reason "bad log"
    """
    registry = registry_of(ctx)
    if delete == (day is not None):
        raise BadRequest("Give either --day, to point the alias at a version, or --delete.")
    if day is None:
        registry.delete_alias(name, alias, reason)
        return typer.echo(f"{alias} of {name} is deleted")
    version = registry.set_alias(name, alias, registry.find(name, day), reason=reason)
    return typer.echo(f"{alias} of {name} points at {version.id}")


@app.command()
def rollback(ctx: typer.Context, name: Name, alias: Alias, reason: Reason = "") -> None:
    """Undo the last move of an alias. A second one undoes the first.

    Example: evergreen registry rollback author serving --reason "worse for newcomers"
    """
    version = registry_of(ctx).rollback(name, alias, reason)
    return typer.echo(f"{alias} of {name} points at {version.id}")


@app.command()
def history(
    ctx: typer.Context,
    name: Name,
    alias: Annotated[str | None, typer.Option(help="Only this alias.")] = None,
    as_json: Json = False,
) -> None:
    """List the moves of the aliases and who made them, newest first. Times are in UTC.

    Example: evergreen registry history author --alias latest
    """
    moves = responses.history(registry_of(ctx), name, alias)
    if as_json:
        return print_json(moves)
    rows = []
    for move in moves:
        when = move["moved_at"][:16].replace("T", " ")
        ends = (move["from_version"], move["to_version"])
        versions = [(id_ or "none").removeprefix(f"{name}/") for id_ in ends]
        rows.append((when, move["alias"], *versions, move["moved_by"], move["reason"]))
    columns = ("when", "alias", "from", "to", "by", "reason")
    caption = "" if moves else "No move is recorded yet."
    return print_table(columns, rows, caption, whole=("when", "alias", "from", "to"))


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
    registry = registry_of(ctx)
    if name is None:
        return _verify_all(registry, as_json)
    version = registry.find(name, day)
    digests = registry.verify(version)
    if as_json:
        return print_json({"version": version.id, "files": digests})
    caption = f"{version.id}: all {len(digests)} files are unchanged since publication"
    return print_table(("file", "sha256"), digests.items(), caption)


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Bring the catalog's schema up to date, before the services of a new release start.

    Every command and service does so when it opens the catalog.
    Example: evergreen registry upgrade
    """
    registry_of(ctx)  # opening it migrates it, or raises CatalogError
    typer.echo(f"The catalog has schema {HEAD}.")


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
        print_json({"versions": verified, "damaged": damaged})
    elif not damaged:
        typer.echo(f"All {verified} versions are unchanged since publication.")
    if damaged:
        raise DamagedVersion(f"{len(damaged)} of {verified} versions are damaged. {REMEDY}")


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
        reference(latest),
        latest["dim"],
        f"{counts(latest, 'consumer')['rows']:,}",
        f"{counts(latest, shown_entity(latest['entities']))['rows']:,}",
    )


def _version_row(version: dict[str, Any]) -> tuple:
    consumers = counts(version, "consumer")
    producers = counts(version, shown_entity(version["entities"]))
    folded_share = consumers["folded"] / max(consumers["rows"], 1)
    shares = map(version["coverage"].get, ENTITY)
    covered = [f"{share:.0%}" for share in shares if share is not None]
    status = version["aliases"]
    if version["status"] != responses.CURRENT:
        status = [*status, version["status"]]
    size, verified = version["size_bytes"], version["verified_at"]
    return (
        reference(version),
        "\n".join(status),
        f"{consumers['rows']:,}",
        f"{producers['rows']:,}",
        f"{folded_share:.0%}",
        ", ".join(covered) or MISSING,
        MISSING if size is None else readable(size),
        verified[:10] if verified else MISSING,
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested dictionary as rows: ("lineage.facts.matrix.rows", "27285")."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, _flat_text(value)


def _flat_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _origin(record: dict[str, Any]) -> str:
    return "folded in" if record["folded"] else "fitted"


def _source(response: dict[str, Any]) -> str:
    found = f"{response['version']} in space {response['space']}"
    if shortened_by := response.get("shortened_by"):
        found += f", shortened by {shortened_by}"
    return found
