"""The registry's pages: plain HTML without JavaScript, and without requests to other hosts."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from embeddings.benchmarks.results import Result, whole
from embeddings.registry import filters, responses
from embeddings.registry.benchmark_curves import BenchmarkCurve, benchmark_curves, headline
from embeddings.registry.chunked import parts_of
from embeddings.registry.client import Entity, Registry, Version
from embeddings.registry.curves import curves
from embeddings.registry.entity_names import names_of
from embeddings.registry.errors import BadRequest, NotFound, UnknownId
from embeddings.registry.files import shown_entity
from embeddings.registry.loaded import texts
from embeddings.registry.search import best
from embeddings.registry.sizes import readable
from embeddings.registry.space_map import space_map
from embeddings.registry.table_summary import summary
from embeddings.registry.versions import LATEST

BARS = 30  # versions in the chart
MOVES = 20  # of aliases, in the table of their history
TEMPLATES = Path(__file__).parent / "templates"
NO_ROWS = {"rows": 0, "folded": 0}  # of an entity that a version does not have
SUGGESTIONS = 8  # ids that an empty search form offers
# Ids and lineage come from outside. Even if markup got through, the browser would not run it.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
templates = Jinja2Templates(directory=TEMPLATES)
# Without these, every line with a {% block %} leaves an empty line in the page.
templates.env.trim_blocks = templates.env.lstrip_blocks = True


def no_link(_request: Request, _field: str, _value: object) -> str:
    """No field of a lineage is an address by itself; a service that knows better replaces this."""
    return ""


templates.env.globals["lineage_link"] = no_link
templates.env.filters["readable"] = readable


def add(app: FastAPI, registry: Registry) -> None:
    """Add the pages to a service."""
    _add_embeddings(app, registry)
    _add_versions(app, registry)
    _add_features(app, registry)
    _add_files(app)


def _add_embeddings(app: FastAPI, registry: Registry) -> None:
    """The front page, and the page of an embedding."""

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        embeddings = responses.overview(registry)
        headlines = {}
        for embedding in embeddings:
            name = embedding["name"]
            headlines[name] = headline(_benchmark_curves(registry, name))
        tables = responses.tables(registry)
        return page(
            request, "index.html", embeddings=embeddings, headlines=headlines, tables=tables
        )

    @app.get("/embeddings/{name}", include_in_schema=False)
    def embedding(request: Request, name: str) -> Response:
        versions = responses.versions(registry, name)
        benchmarks = _benchmark_curves(registry, name)
        return page(
            request,
            "embedding.html",
            name=name,
            versions=versions[::-1],
            columns=shown_entity(versions[-1]["entities"]),
            aliases=registry.aliases(name),
            benchmarks=benchmarks,
            headline=headline(benchmarks),
            headlines=_headline_values(registry, name, headline(benchmarks)),
            bars=_bars(versions[-BARS:]),
            curves=curves(versions),
            search=_search(registry, registry.version(name)),
            moves=responses.history(registry, name)[:MOVES],
            existing={version["id"] for version in versions},
        )


def _add_versions(app: FastAPI, registry: Registry) -> None:
    """The page of a version, and what differs between two."""

    @app.get("/embeddings/{name}/{reference}", include_in_schema=False)
    def version(
        request: Request,
        name: str,
        reference: str,
        entity: str = "",
        id: Annotated[str, Query(max_length=1000)] = "",
        among: str = "",
        k: Annotated[int, Query(ge=1, le=1000)] = 10,
        where: Annotated[str, Query(max_length=1000)] = "",
    ) -> Response:
        found = registry.find(name, reference)
        search = _search(registry, found, entity, id, among, k, where)
        status = 404 if search["error"] else 200
        return page(
            request,
            "version.html",
            status,
            name=name,
            version=responses.detail(registry, found),
            benchmarks=[_benchmark_row(result, found.day) for result in registry.results(found)],
            map=space_map(registry, found),
            others=[other for other in registry.versions(name)[::-1] if other.id != found.id],
            search=search,
        )

    @app.get("/diff/{name}/{reference}", include_in_schema=False)
    def difference(
        request: Request, name: str, reference: str, against: Annotated[str, Query(max_length=200)]
    ) -> Response:
        version = registry.find(name, reference)
        before = registry.find(*_reference(against, name))
        found = registry.diff(before, version)
        return page(request, "diff.html", a=before, b=version, diff=found)


def _add_features(app: FastAPI, registry: Registry) -> None:
    """The page of a table of features."""

    @app.get("/features/{name}", include_in_schema=False)
    def features(
        request: Request, name: str, version: Annotated[str, Query(max_length=100)] = LATEST
    ) -> Response:
        found = registry.find(name, version)
        table = registry.load_features(found)
        return page(
            request,
            "features.html",
            name=name,
            entity=table.entity,
            version=responses.detail(registry, found),
            versions=responses.versions(registry, name),
            summary=summary(table),
            address=str(request.base_url).rstrip("/"),
        )

    @app.get("/features", include_in_schema=False)
    def all_features() -> Response:
        return RedirectResponse("/#features")


def _add_files(app: FastAPI) -> None:
    """What the pages refer to."""

    @app.get("/style.css", include_in_schema=False)
    def style() -> Response:
        return FileResponse(TEMPLATES / "style.css", media_type="text/css")

    @app.get("/tree.svg", include_in_schema=False)
    def tree() -> Response:
        return FileResponse(TEMPLATES / "tree.svg", media_type="image/svg+xml")

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return RedirectResponse("/tree.svg", 301)


def error(request: Request, status: int, detail: str) -> Response:
    """A page with the error's message."""
    return page(request, "error.html", status, detail=detail)


def page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """A rendered template with the headers that every page has."""
    return templates.TemplateResponse(
        request, template, context, status_code=status, headers=SECURITY_HEADERS
    )


def _search(
    registry: Registry,
    version: Version,
    entity: str = "",
    id_: str = "",
    among: str = "",
    k: int = 10,
    where: str = "",
) -> dict[str, Any]:
    """What the search form shows: the query with its result or error, or ids to try.

    entity: by default the one that histories consist of; among: by default the same. where: a
    condition, as `filters` has it; empty for none.
    """
    entity = entity or shown_entity(version.entities)
    among = among or entity
    search: dict[str, Any] = {
        "version": version.id,
        "entities": sorted(version.entities),
        "entity": entity,
        "id": id_,
        "among": among,
        "k": k,
        "where": where,
        "features": _feature_names(registry, among),
        "error": "",
        "near": [],
        "neighbours": [],
    }
    if not id_:
        columns = shown_entity(version.entities)
        busiest = _busiest(registry.load(version).entities[columns])
        names = names_of(registry, columns, busiest)
        links = [{**_link(f"{columns}:{one}"), "name": names.get(one, "")} for one in busiest]
        return {**search, "suggestions": links}
    # An error is shown in the form, so that the visitor can correct the query.
    try:
        conditions = filters.parsed([where] if where else [])
        key = f"{entity}:{id_}"
        found = responses.neighbours(registry, version, key, k, among, where=conditions)
    except UnknownId as unknown:
        return {**search, "error": str(unknown), "near": [_link(key) for key in unknown.near]}
    except (NotFound, BadRequest) as refusal:
        return {**search, "error": str(refusal)}
    ids = [neighbour["id"] for neighbour in found["neighbours"]]
    named = {"names": names_of(registry, found["among"], ids)}
    return {**search, **found, **named, "name": names_of(registry, entity, [id_]).get(id_, "")}


def _feature_names(registry: Registry, entity: str) -> list[str]:
    """The features that a condition can be about, as NAME.COLUMN; first those of an entity."""
    names = []
    tables = responses.tables(registry)
    for table in sorted(tables, key=lambda table: table["entity"] != entity):
        names += [f"{table['name']}.{column}" for column in table["columns"] or []]
    return names


def _link(key: str) -> dict[str, str]:
    """A key such as 'producer:1196', and the query string that searches for it."""
    entity, _, id_ = key.partition(":")
    return {"key": key, "query": urlencode({"entity": entity, "id": id_})}


def _busiest(entity: Entity) -> list[str]:
    """The ids with the most engagements behind them, most first."""
    # Part by part: joining the counts of a large entity would copy them.
    rows, _ = best(parts_of(entity.counts), SUGGESTIONS)
    return texts(entity.ids, rows)


def _reference(text: str, name: str) -> tuple[str, str]:
    """'author/2022-04-25.r1' -> ('author', '2022-04-25.r1'); without a name, of this embedding."""
    other, slash, reference = text.partition("/")
    return (other, reference) if slash else (name, text)


def _benchmark_curves(registry: Registry, name: str) -> list[BenchmarkCurve]:
    """The benchmarks of an embedding, as curves."""
    return benchmark_curves(registry.versions(name), registry.all_results(name))


def _headline_values(
    registry: Registry, name: str, curve: BenchmarkCurve | None
) -> dict[str, Result]:
    """The headline's result on the next day, or on its own, of every version, by its id."""
    found: dict[str, Result] = {}
    if curve is None:
        return found
    results = registry.all_results(name)
    for version in registry.versions(name):
        for result in whole(results.get(version.id, [])):
            is_headline = (result.task, result.metric) == (curve.task, curve.metric)
            if is_headline and (result.on - version.day).days <= 1:
                found[version.id] = result
    return found


def _benchmark_row(result: Result, day: date) -> dict[str, Any]:
    """A result as a table shows it: interval and baselines in per cent of a common width."""
    values = [0.0, result.low, result.high, *result.baselines.values()]
    low, width = min(values), (max(values) - min(values)) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / width, 1)

    return {
        **vars(result),
        "title": f"{result.task} {result.metric}".replace("_", " "),
        "age": (result.on - day).days,
        "start": place(result.low),
        "width": max(round(place(result.high) - place(result.low), 1), 0.8),
        "marks": [min(place(value), 99.2) for value in result.baselines.values()],
    }


def _bars(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One bar per version, fitted consumers below and folded-in ones above.

    Heights are percentages of the tallest bar.
    """
    counts = [version["entities"].get("consumer", NO_ROWS) for version in versions]
    tallest = max((count["rows"] for count in counts), default=0) or 1
    bars = []
    for version, count in zip(versions, counts, strict=True):
        bar = {
            "id": version["id"],
            "label": _label(version),
            "rows": count["rows"],
            "folded_rows": count["folded"],
            "fitted": 100 * (count["rows"] - count["folded"]) / tallest,
            "folded": 100 * count["folded"] / tallest,
        }
        bars.append(bar)
    return bars


def _label(version: dict[str, Any]) -> str:
    """'04-25' for a day's first revision, '04-25.r2' for its second."""
    month_and_day = version["day"][5:]
    revision = version["revision"]
    return month_and_day if revision == 1 else f"{month_and_day}.r{revision}"
