"""The registry over HTTP: JSON below /v1 for programs, pages for people.

Anyone who can reach the port can read. The only write, moving an alias, requires the token. Start
the service with

    EVERGREEN_REGISTRY_ROOT=... uvicorn --factory embeddings.registry.service:app_from_environment

`parameters` has what a request may contain, `answers` what is answered, `failures` the errors.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from embeddings.registry import answers, failures, formats, pages, responses
from embeddings.registry.arrow import ARROW
from embeddings.registry.client import Registry
from embeddings.registry.errors import Forbidden, RegistryError, Unauthorized
from embeddings.registry.finder import Finder
from embeddings.registry.limits import Limited
from embeddings.registry.metrics import CONTENT_TYPE, Measured, Metrics
from embeddings.registry.parameters import (
    Accept,
    Alias,
    AliasRequest,
    Among,
    By,
    Groups,
    History,
    K,
    Key,
    Keys,
    Name,
    PathReference,
    Producers,
    Reference,
    Space,
    VectorsRequest,
)
from embeddings.registry.versions import LATEST

TAGS = [
    {"name": "catalog", "description": "What is published, and where the aliases point."},
    {"name": "vectors", "description": "What is computed from the vectors of one version."},
    {"name": "service", "description": "The service itself."},
]

AS_ARROW: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The vectors, as JSON or by `Accept` as an Arrow stream.",
        "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}},
    }
}
AT_ONCE = 100  # the most ids that are looked up while other requests wait
BEARER = HTTPBearer(auto_error=False, description="The service's token; only writes need it.")


def app_from_environment() -> FastAPI:
    """The service, configured by environment variables. Raises RegistryError.

    EVERGREEN_REGISTRY_ROOT: the folder of the registry, required.
    EVERGREEN_REGISTRY_CATALOG_URL: by default SQLite below the root.
    EVERGREEN_REGISTRY_TOKEN: the bearer token of writes; without it every write is refused.
    """
    root = os.environ.get("EVERGREEN_REGISTRY_ROOT")
    if not root:
        raise RegistryError(
            "EVERGREEN_REGISTRY_ROOT is not set; set it to the folder with the registry's files."
        )
    default_url = f"sqlite:///{Path(root) / 'catalog.db'}"
    url = os.environ.get("EVERGREEN_REGISTRY_CATALOG_URL") or default_url
    return create_app(Path(root), url, os.environ.get("EVERGREEN_REGISTRY_TOKEN", ""))


def create_app(root: Path, url: str, token: str = "") -> FastAPI:
    """The service for one registry. Raises CatalogError.

    token: the bearer token of writes; if empty, every write is refused.

    Routes return a Response, else FastAPI would validate every number of an answer.
    """
    registry = Registry(root, url)
    # No interactive API docs: their pages load scripts from another host.
    app = FastAPI(
        title="Evergreen registry",
        version="1",
        openapi_tags=TAGS,
        responses=failures.documented(414, 422, 500, 503),
        docs_url=None,
        redoc_url=None,
    )
    failures.handle(app)
    metrics = Metrics()
    app.add_middleware(Limited)
    app.add_middleware(Measured, metrics=metrics)
    pages.add(app, registry)
    _add_service_routes(app, registry, metrics)
    finder = Finder(registry)
    _add_catalog_routes(app, registry, finder)
    _add_vector_routes(app, registry, finder)
    _add_search_routes(app, registry, finder)
    _add_writes(app, registry, token)
    return app


def _add_service_routes(app: FastAPI, registry: Registry, metrics: Metrics) -> None:
    """For those who operate the service."""

    @app.get("/healthz", response_model=answers.Health, tags=["service"], summary="Health check")
    def healthz() -> Response:
        """Answers 503 with the reason while the catalog cannot be read."""
        return JSONResponse({"status": "ok", "embeddings": len(registry.names())})

    @app.get("/metrics", response_class=PlainTextResponse, tags=["service"], summary="Metrics")
    def metrics_text() -> Response:
        """In Prometheus's text format: requests by route, method and status, and their seconds."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_catalog_routes(app: FastAPI, registry: Registry, finder: Finder) -> None:
    """What is published: embeddings, versions, aliases and their history."""

    @app.get(
        "/v1/embeddings",
        response_model=list[answers.Embedding],
        tags=["catalog"],
        summary="All embeddings",
    )
    def names() -> Response:
        return JSONResponse(responses.overview(registry))

    @app.get(
        "/v1/embeddings/{name}/versions",
        response_model=list[answers.Version],
        responses=failures.documented(404),
        tags=["catalog"],
        summary="All versions of an embedding",
    )
    def versions(name: Name) -> Response:
        """Oldest day first. Of a day with several revisions, the current one is last."""
        return JSONResponse(responses.versions(registry, name))

    @app.get(
        "/v1/embeddings/{name}/versions/{version}",
        response_model=answers.Version,
        responses=failures.documented(404),
        tags=["catalog"],
        summary="One version",
    )
    def version_detail(name: Name, version: PathReference) -> Response:
        return JSONResponse(responses.detail(registry, finder.find(name, version)))

    @app.get(
        "/v1/embeddings/{name}/aliases",
        response_model=dict[str, str],
        responses=failures.documented(404),
        tags=["catalog"],
        summary="Where the aliases point",
    )
    def aliases(name: Name) -> Response:
        return JSONResponse(responses.aliases(registry, name))

    @app.get(
        "/v1/embeddings/{name}/history",
        response_model=list[answers.Move],
        responses=failures.documented(404),
        tags=["catalog"],
        summary="Where the aliases pointed before",
    )
    def history(name: Name, alias: Alias = None) -> Response:
        """Newest move first."""
        return JSONResponse(responses.history(registry, name, alias))


def _add_vector_routes(app: FastAPI, registry: Registry, finder: Finder) -> None:
    """Vectors as they are stored, and vectors of histories."""

    async def run(read: Callable[[], Response], ids: int) -> Response:
        """Look up few ids at once: handing the work to a thread would take longer."""
        if finder.is_quick and ids <= AT_ONCE:
            return read()
        return await run_in_threadpool(read)

    @app.get(
        "/v1/embeddings/{name}/vectors",
        response_model=answers.Vectors,
        responses=AS_ARROW | failures.documented(404, 406, 409),
        tags=["vectors"],
        summary="Vectors of a few ids",
    )
    async def vectors(
        name: Name,
        id: Keys,
        version: Reference = LATEST,
        space: Space = None,
        accept: Accept = "",
    ) -> Response:
        media_type = formats.chosen(accept)

        def read() -> Response:
            loaded = registry.load(finder.find(name, version), space)
            return formats.answer(responses.look_up_keys(loaded, id), media_type)

        return await run(read, len(id))

    @app.post(
        "/v1/embeddings/{name}/vectors",
        response_model=answers.Vectors,
        responses=AS_ARROW | failures.documented(404, 406, 409, 413),
        tags=["vectors"],
        summary="Vectors of many ids",
    )
    async def many_vectors(
        name: Name,
        request: VectorsRequest,
        version: Reference = LATEST,
        space: Space = None,
        accept: Accept = "",
    ) -> Response:
        """In the order of the ids. Ask for Arrow when there are many: it is much smaller."""
        media_type = formats.chosen(accept)

        def read() -> Response:
            loaded = registry.load(finder.find(name, version), space)
            found = responses.look_up(loaded, request.entity, request.ids)
            return formats.answer(found, media_type)

        return await run(read, len(request.ids))

    @app.post(
        "/v1/embeddings/{name}/fold-in",
        response_model=answers.FoldedVector,
        responses=failures.documented(404, 413),
        tags=["vectors"],
        summary="A vector for a history",
    )
    def fold_in(name: Name, history: History, version: Reference = LATEST) -> Response:
        """By the formula of the nightly fold-in. Unknown producers are left out and listed."""
        found = finder.find(name, version)
        return JSONResponse(responses.fold_in(registry, found, history.strengths))


def _add_search_routes(app: FastAPI, registry: Registry, finder: Finder) -> None:
    """What is found by its vector."""

    @app.get(
        "/v1/embeddings/{name}/neighbours",
        response_model=answers.Neighbours,
        responses=failures.documented(404),
        tags=["vectors"],
        summary="The nearest vectors",
    )
    def neighbours(
        name: Name, id: Key, k: K = 10, among: Among = None, version: Reference = LATEST
    ) -> Response:
        """By cosine and exact search, best first, without the id itself."""
        found = finder.find(name, version)
        return JSONResponse(responses.neighbours(registry, found, id, k, among))

    @app.get(
        "/v1/embeddings/{name}/lookalike",
        response_model=answers.Lookalikes,
        responses=failures.documented(404),
        tags=["vectors"],
        summary="Producers for a newcomer",
    )
    def lookalike(
        name: Name,
        group: Groups,
        candidate: Producers = None,
        k: K = 10,
        by: By = "mean",
        version: Reference = LATEST,
    ) -> Response:
        """By the groups that the newcomer belongs to; without candidates, among all producers."""
        found = finder.find(name, version)
        scored = responses.lookalike(registry, found, group, candidate or [], k, by)
        return JSONResponse(scored)


def _add_writes(app: FastAPI, registry: Registry, token: str) -> None:
    @app.post(
        "/v1/embeddings/{name}/aliases",
        response_model=answers.Version,
        responses=failures.documented(401, 403, 404, 413),
        tags=["catalog"],
        summary="Move an alias",
        dependencies=[Depends(_guard(token))],
    )
    def set_alias(name: Name, request: AliasRequest) -> Response:
        """The only write: it needs the token. Answers the version that the alias points at."""
        version = registry.find(name, request.version)
        moved = registry.set_alias(
            name, request.alias, version, request.only_forward, request.reason
        )
        return JSONResponse(responses.detail(registry, moved))


def _guard(token: str) -> Callable[..., None]:
    """A dependency that rejects requests without the token."""

    def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None,
    ) -> None:
        if not token:
            raise Forbidden(
                "Writes are refused: the service was started without a token. Set one and restart."
            )
        # Takes the same time wherever the texts differ, so the token cannot be guessed by timing.
        credentials = given.credentials if given else ""
        if not hmac.compare_digest(credentials.encode(), token.encode()):
            raise Unauthorized("A write needs the header 'Authorization: Bearer TOKEN'.")

    return check
