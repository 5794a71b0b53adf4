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

from fastapi import APIRouter, Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from embeddings.registry import failures, formats, pages, responses, schemas
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

EMBEDDINGS = "/v1/embeddings"
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

    Routes return a Response, else FastAPI would validate every number of an answer. Their names
    are their summaries in OpenAPI.
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
    finder = Finder(registry)
    for router in (
        _operated(registry, metrics),
        _catalog(registry, finder),
        _writes(registry, token),
        _vectors(registry, finder),
        _computed(registry, finder),
    ):
        _summarise(router)
        app.include_router(router)
    return app


def _summarise(router: APIRouter) -> None:
    """Give each route a summary in OpenAPI: its name as a sentence, 'All versions'."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.summary = route.name.replace("_", " ").capitalize()


def _operated(registry: Registry, metrics: Metrics) -> APIRouter:
    """Routes for those who operate the service."""
    router = APIRouter(tags=["service"])

    @router.get("/healthz", response_model=schemas.Health)
    def health_check() -> Response:
        """Answers 503 with the reason while the catalog cannot be read."""
        return JSONResponse({"status": "ok", "embeddings": len(registry.names())})

    @router.get("/metrics", response_class=PlainTextResponse)
    def all_metrics() -> Response:
        """In Prometheus's text format: requests by route, method and status, and their seconds."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _catalog(registry: Registry, finder: Finder) -> APIRouter:
    """Routes for what is published: embeddings, versions, aliases and their history."""
    router = APIRouter(prefix=EMBEDDINGS, tags=["catalog"])
    unknown = failures.documented(404)

    @router.get("", response_model=list[schemas.Embedding])
    def all_embeddings() -> Response:
        return JSONResponse(responses.overview(registry))

    @router.get("/{name}/versions", response_model=list[schemas.Version], responses=unknown)
    def all_versions(name: Name) -> Response:
        """Oldest day first. Of a day with several revisions, the current one is last."""
        return JSONResponse(responses.versions(registry, name))

    @router.get("/{name}/versions/{version}", response_model=schemas.Version, responses=unknown)
    def one_version(name: Name, version: PathReference) -> Response:
        """With its lineage."""
        return JSONResponse(responses.detail(registry, finder.find(name, version)))

    @router.get("/{name}/aliases", response_model=dict[str, str], responses=unknown)
    def all_aliases(name: Name) -> Response:
        """Alias -> the version that it points at."""
        return JSONResponse(responses.aliases(registry, name))

    @router.get("/{name}/history", response_model=list[schemas.Move], responses=unknown)
    def history_of_aliases(name: Name, alias: Alias = None) -> Response:
        """Newest move first."""
        return JSONResponse(responses.history(registry, name, alias))

    return router


def _writes(registry: Registry, token: str) -> APIRouter:
    """The one route that changes something."""
    refused = failures.documented(401, 403, 404, 413)
    router = APIRouter(prefix=EMBEDDINGS, tags=["catalog"], dependencies=[Depends(_guard(token))])

    @router.post("/{name}/aliases", response_model=schemas.Version, responses=refused)
    def move_an_alias(name: Name, request: AliasRequest) -> Response:
        """The only write: it needs the token. Answers the version that the alias points at."""
        version = registry.find(name, request.version)
        moved = registry.set_alias(
            name, request.alias, version, request.only_forward, request.reason
        )
        return JSONResponse(responses.detail(registry, moved))

    return router


def _vectors(registry: Registry, finder: Finder) -> APIRouter:
    """Routes for vectors as they are stored."""
    router = APIRouter(prefix=EMBEDDINGS, tags=["vectors"])
    described = AS_ARROW | failures.documented(404, 406, 409)
    too_large = failures.documented(413)

    @router.get("/{name}/vectors", response_model=schemas.Vectors, responses=described)
    async def vectors_of_a_few_ids(
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

        return await _run(read, at_once=finder.is_quick and len(id) <= AT_ONCE)

    @router.post("/{name}/vectors", response_model=schemas.Vectors, responses=described | too_large)
    async def vectors_of_many_ids(
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

        return await _run(read, at_once=finder.is_quick and len(request.ids) <= AT_ONCE)

    return router


async def _run(read: Callable[[], Response], at_once: bool) -> Response:
    """The answer, read now or in a thread. To hand over little work takes longer than to do it."""
    return read() if at_once else await run_in_threadpool(read)


def _computed(registry: Registry, finder: Finder) -> APIRouter:
    """Routes for what is computed from the vectors of one version."""
    router = APIRouter(prefix=EMBEDDINGS, tags=["vectors"])
    unknown = failures.documented(404)
    refused = failures.documented(404, 413)

    @router.post("/{name}/fold-in", response_model=schemas.FoldedVector, responses=refused)
    def a_vector_for_a_history(
        name: Name, history: History, version: Reference = LATEST
    ) -> Response:
        """By the formula of the nightly fold-in. Unknown producers are left out and listed."""
        found = finder.find(name, version)
        return JSONResponse(responses.fold_in(registry, found, history.strengths))

    @router.get("/{name}/neighbours", response_model=schemas.Neighbours, responses=unknown)
    def the_nearest_vectors(
        name: Name, id: Key, k: K = 10, among: Among = None, version: Reference = LATEST
    ) -> Response:
        """By cosine and exact search, best first, without the id itself."""
        found = finder.find(name, version)
        return JSONResponse(responses.neighbours(registry, found, id, k, among))

    @router.get("/{name}/lookalike", response_model=schemas.Lookalikes, responses=unknown)
    def producers_for_a_newcomer(
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

    return router


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
