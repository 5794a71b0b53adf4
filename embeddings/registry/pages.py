"""The registry's pages: plain HTML that works without JavaScript and loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from embeddings.registry import responses as answers
from embeddings.registry.chunked import parts_of
from embeddings.registry.client import Entity, Registry, Version
from embeddings.registry.errors import BadRequest, NotFound
from embeddings.registry.search import best

BARS = 30  # versions in the chart
TEMPLATES = Path(__file__).parent / "templates"
SAFE = {  # a page may show what it is given and no more
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
templates = Jinja2Templates(directory=TEMPLATES)
templates.env.trim_blocks = templates.env.lstrip_blocks = True


def add(app: FastAPI, registry: Registry) -> None:
    """Add the pages to a service."""

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        return _page(request, "index.html", embeddings=answers.overview(registry))

    @app.get("/embeddings/{name}", include_in_schema=False)
    def embedding(request: Request, name: str) -> Response:
        aliases = registry.aliases(name)
        versions = [answers.describe(version, aliases) for version in registry.versions(name)]
        latest = registry.version(name)
        return _page(
            request,
            "embedding.html",
            name=name,
            versions=versions[::-1],
            metrics=sorted({metric for version in versions for metric in _metrics(version)}),
            bars=_bars(versions[-BARS:]),
            search=_search(registry, latest),
        )

    @app.get("/embeddings/{name}/{which}", include_in_schema=False)
    def version(
        request: Request,
        name: str,
        which: str,
        entity: str = "producer",
        id: Annotated[str, Query(max_length=1000)] = "",
        among: str = "",
        k: Annotated[int, Query(ge=1, le=1000)] = 10,
    ) -> Response:
        found = registry.find(name, which)
        search = _search(registry, found, entity, id, among or entity, k)
        described = answers.describe(found, registry.aliases(name))
        status = 404 if search["error"] else 200
        return _page(request, "version.html", status, name=name, version=described, search=search)

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
    """A page that says what is wrong."""
    return _page(request, "error.html", status, detail=detail)


def _page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    return templates.TemplateResponse(request, template, context, status_code=status, headers=SAFE)


def _search(
    registry: Registry,
    version: Version,
    entity: str = "producer",
    id_: str = "",
    among: str = "producer",
    k: int = 10,
) -> dict[str, Any]:
    """What the search form shows: the question, its answer or why there is none, and ids worth trying."""
    question = {
        "version": version.id,
        "entities": sorted(version.entities),
        "entity": entity,
        "id": id_,
    }
    search: dict[str, Any] = {
        **question,
        "among": among,
        "k": k,
        "error": "",
        "near": [],
        "neighbours": [],
    }
    if not id_:
        entities = registry.load(version).entities
        return {
            **search,
            "suggestions": [_link("producer", i) for i in _busiest(entities["producer"])],
        }
    try:
        return {**search, **answers.neighbours(registry, version, f"{entity}:{id_}", k, among)}
    except (NotFound, BadRequest) as refusal:
        near = [_link(*who.split(":", 1)) for who in getattr(refusal, "near", []) if ":" in who]
        return {**search, "error": str(refusal), "near": near}


def _link(entity: str, id_: str) -> dict[str, str]:
    return {"who": f"{entity}:{id_}", "query": urlencode({"entity": entity, "id": id_})}


def _busiest(vectors: Entity, n: int = 8) -> list[str]:
    """The ids with the most engagements behind them."""
    rows, _ = best(parts_of(vectors.counts), n)
    return [id_.decode() for id_ in vectors.ids[rows].tolist()]


def _metrics(version: dict[str, Any]) -> dict[str, float]:
    metrics = version["lineage"].get("metrics")
    return (
        {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        if isinstance(metrics, dict)
        else {}
    )


def _bars(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One bar a version: consumers fitted below, folded in above, as percentages of the tallest."""
    consumers = [
        version["entities"].get("consumer", {"rows": 0, "folded": 0}) for version in versions
    ]
    tallest = max((c["rows"] for c in consumers), default=0) or 1
    return [
        {
            "id": version["id"],
            "label": f"{version['day'][5:]}{'' if version['revision'] == 1 else '.r' + str(version['revision'])}",
            "rows": c["rows"],
            "folded_rows": c["folded"],
            "fitted": 100 * (c["rows"] - c["folded"]) / tallest,
            "folded": 100 * c["folded"] / tallest,
        }
        for version, c in zip(versions, consumers, strict=True)
    ]
