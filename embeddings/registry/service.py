"""The registry over HTTP: JSON below /v1 for programs, pages for people.

Anyone who can reach the port can read. The only writes, those of aliases, require the token. Start
the service with

    EVERGREEN_REGISTRY_ROOT=... uvicorn --factory embeddings.registry.service:app_from_environment

`parameters` has what a request may contain, `schemas` what is answered, `failures` the errors.
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

from embeddings.registry import (
    comparison,
    failures,
    filters,
    formats,
    pages,
    responses,
    schemas,
)
from embeddings.registry.arrow import ARROW
from embeddings.registry.client import Registry
from embeddings.registry.errors import BadRequest, Forbidden, RegistryError, Unauthorized
from embeddings.registry.finder import Finder
from embeddings.registry.limits import Limited
from embeddings.registry.metrics import CONTENT_TYPE, Measured, Metrics
from embeddings.registry.parameters import (
    MAX_VALUES,
    UNNAMED,
    Accept,
    Alias,
    AliasRequest,
    Among,
    By,
    Compared,
    Conditions,
    Dim,
    Exact,
    FeaturesRequest,
    FoldedK,
    Groups,
    History,
    K,
    Key,
    Keys,
    Mover,
    Name,
    NeighboursRequest,
    Only,
    PathAlias,
    PathReference,
    Producers,
    Reason,
    Reference,
    Space,
    VectorsRequest,
    VersionId,
)
from embeddings.registry.versions import EMBEDDING, LATEST
from embeddings.storage.objects import Objects
from embeddings.storage.opening import bucket
from embeddings.storage.place import Place

EMBEDDINGS = "/v1/embeddings"
TAGS = [
    {"name": "catalog", "description": "What is published, and where the aliases point."},
    {"name": "vectors", "description": "What is computed from the vectors of one version."},
    {"name": "benchmarks", "description": "How good versions are, and what differs between them."},
    {"name": "features", "description": "Features of any kind by name, joined."},
    {"name": "service", "description": "The service itself."},
]

AS_ARROW: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "As JSON, or by `Accept` as an Arrow stream.",
        "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}},
    }
}
AT_ONCE = 100  # the most ids that are looked up while other requests wait
BEARER = HTTPBearer(auto_error=False, description="The service's token; only writes need it.")


def app_from_environment(place: Place | None = None) -> FastAPI:
    """The service, configured by environment variables. Raises RegistryError.

    place: where the files of versions are; by default as the variables say.

    EVERGREEN_REGISTRY_ROOT: the folder of the registry, required.
    EVERGREEN_REGISTRY_BUCKET: the `storage.url` of a home whose versions are in a bucket; those
    that are read are copied below the root, up to EVERGREEN_REGISTRY_CACHE_GB (20).
    EVERGREEN_REGISTRY_ENDPOINT: the address of its server; by default AWS.
    EVERGREEN_REGISTRY_CATALOG_URL: by default SQLite below the root.
    EVERGREEN_REGISTRY_TOKEN: the bearer token of writes; without it every write is refused.
    """
    root = os.environ.get("EVERGREEN_REGISTRY_ROOT")
    if not root:
        raise RegistryError(
            "EVERGREEN_REGISTRY_ROOT is not set; set it to the folder with the registry's files."
        )
    # What SQLAlchemy would read in another way than as a part of the path is escaped.
    file = str(Path(root) / "catalog.db").replace("%", "%25").replace("?", "%3F")
    default_url = f"sqlite:///{file}"
    url = os.environ.get("EVERGREEN_REGISTRY_CATALOG_URL") or default_url
    token = os.environ.get("EVERGREEN_REGISTRY_TOKEN", "")
    return create_app(Path(root), url, token, place or _bucket_from_environment(Path(root)))


def _bucket_from_environment(root: Path) -> Place | None:
    url = os.environ.get("EVERGREEN_REGISTRY_BUCKET")
    if not url:
        return None
    objects = Objects(url, os.environ.get("EVERGREEN_REGISTRY_ENDPOINT", ""))
    cache_gb = float(os.environ.get("EVERGREEN_REGISTRY_CACHE_GB", "20"))
    return bucket(objects, root / "copy", cache_gb, "registry")


def create_app(root: Path, url: str, token: str = "", place: Place | None = None) -> FastAPI:
    """The service for one registry. Raises CatalogError.

    token: the bearer token of writes; if empty, every write is refused. place: as in `Registry`.

    Routes return a Response, else FastAPI would validate every number of an answer. Their names
    are their summaries in OpenAPI.
    """
    registry = Registry(root, url, place)
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
    metrics = app.state.metrics = Metrics(registry.verified)
    app.add_middleware(Limited)
    app.add_middleware(Measured, metrics=metrics)
    finder = Finder(registry)
    for router in (
        _operated(registry, metrics),
        # A request is compared with one route after the other: the most frequent ones come first.
        _vectors(registry, finder),
        _computed(registry, finder),
        _nearest(registry, finder),
        _features(registry),
        _catalog(registry, finder),
        _compared(registry, finder),
        _writes(registry, token),
    ):
        _summarise(router)
        app.include_router(router)
    pages.add(app, registry)
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
        return JSONResponse({"status": "ok", "embeddings": len(registry.names(EMBEDDING))})

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
    """The routes that change something: they move and delete aliases."""
    refused = failures.documented(401, 403, 404)
    too_large = failures.documented(413)
    router = APIRouter(prefix=EMBEDDINGS, tags=["catalog"], dependencies=[Depends(_guard(token))])

    @router.post("/{name}/aliases", response_model=schemas.Version, responses=refused | too_large)
    def move_an_alias(name: Name, request: AliasRequest) -> Response:
        """Needs the token. Answers the version that the alias points at."""
        version = registry.find(name, request.version)
        moved = registry.set_alias(
            name, request.alias, version, request.only_forward, request.reason, request.by
        )
        return JSONResponse(responses.detail(registry, moved))

    @router.post(
        "/{name}/aliases/{alias}/rollback", response_model=schemas.Version, responses=refused
    )
    def undo_the_last_move_of_an_alias(
        name: Name, alias: PathAlias, reason: Reason = "", by: Mover = UNNAMED
    ) -> Response:
        """Needs the token. Answers the version that the alias points at. A second one undoes it."""
        moved = registry.rollback(name, alias, reason, by)
        return JSONResponse(responses.detail(registry, moved))

    @router.delete("/{name}/aliases/{alias}", response_model=dict[str, str], responses=refused)
    def delete_an_alias(
        name: Name, alias: PathAlias, reason: Reason = "", by: Mover = UNNAMED
    ) -> Response:
        """Needs the token. Answers the aliases that are left. The history stays."""
        registry.delete_alias(name, alias, reason, by)
        return JSONResponse(responses.aliases(registry, name))

    return router


def _compared(registry: Registry, finder: Finder) -> APIRouter:
    """Routes for benchmarks, and for what differs between versions."""
    router = APIRouter(prefix="/v1", tags=["benchmarks"])
    unknown = failures.documented(404)

    @router.get(
        "/embeddings/{name}/benchmarks",
        response_model=dict[str, list[schemas.Result]],
        responses=unknown,
    )
    def results_of_all_versions(name: Name) -> Response:
        """By the version's id; versions without any are left out."""
        return JSONResponse(responses.all_results(registry, name))

    @router.get(
        "/embeddings/{name}/versions/{version}/benchmarks",
        response_model=list[schemas.Result],
        responses=unknown,
    )
    def results_of_one_version(name: Name, version: PathReference) -> Response:
        """By task, metric and day of the labels."""
        return JSONResponse(responses.results(registry, registry.find(name, version)))

    @router.get("/benchmarks", response_model=schemas.Comparison, responses=unknown)
    def benchmarks_side_by_side(of: Compared) -> Response:
        """Each metric on the newest day of labels that most of them have."""
        return JSONResponse(responses.comparison(comparison.compare(registry, of)))

    @router.get("/diff", response_model=schemas.Diff, responses=unknown)
    def differences_between_two_versions(a: VersionId, b: VersionId) -> Response:
        """Ids, vectors, lineage and benchmarks. Of many common ids, a sample is compared."""
        versions = [finder.find(*responses.named(text)) for text in (a, b)]
        return JSONResponse(responses.diff(registry.diff(*versions)))

    return router


def _features(registry: Registry) -> APIRouter:
    """Routes for features by name."""
    router = APIRouter(prefix="/v1/features", tags=["features"])
    described = AS_ARROW | failures.documented(404, 406, 409, 413)

    @router.get("", response_model=list[schemas.FeatureTable])
    def all_tables_of_features() -> Response:
        """Their versions, aliases and history are read as those of an embedding."""
        return JSONResponse(responses.tables(registry))

    @router.post("", response_model=schemas.Features, responses=described)
    def features_of_ids(request: FeaturesRequest, accept: Accept = "") -> Response:
        """Columns of tables and vectors of embeddings, one row per id. A missing one is null."""
        media_type = formats.chosen(accept)
        if len(request.ids) * len(request.names) > MAX_VALUES:
            raise BadRequest(
                f"{len(request.names)} features of {len(request.ids):,} ids are too many for one "
                f"request: send fewer ids, so that the product is at most {MAX_VALUES:,}."
            )
        found = registry.features(
            request.entity, request.ids, request.names, request.as_of, request.space
        )
        return formats.answer_features(found, media_type)

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
        dim: Dim = None,
        accept: Accept = "",
    ) -> Response:
        media_type = formats.chosen(accept)

        def read() -> Response:
            loaded = registry.load(finder.find(name, version), space)
            return formats.answer(responses.look_up_keys(loaded, id, dim), media_type)

        return await _run(read, at_once=finder.is_quick and len(id) <= AT_ONCE)

    @router.post("/{name}/vectors", response_model=schemas.Vectors, responses=described | too_large)
    async def vectors_of_many_ids(
        name: Name,
        request: VectorsRequest,
        version: Reference = LATEST,
        space: Space = None,
        dim: Dim = None,
        accept: Accept = "",
    ) -> Response:
        """In the order of the ids. Ask for Arrow when there are many: it is much smaller."""
        media_type = formats.chosen(accept)

        def read() -> Response:
            loaded = registry.load(finder.find(name, version), space)
            found = responses.look_up(loaded, request.entity, request.ids, dim)
            return formats.answer(found, media_type)

        return await _run(read, at_once=finder.is_quick and len(request.ids) <= AT_ONCE)

    return router


async def _run(read: Callable[[], Response], at_once: bool) -> Response:
    """The answer, read now or in a thread. To hand over little work takes longer than to do it."""
    return read() if at_once else await run_in_threadpool(read)


def _computed(registry: Registry, finder: Finder) -> APIRouter:
    """Routes for what is computed from the vectors of one version."""
    router = APIRouter(prefix=EMBEDDINGS, tags=["vectors"])
    refused = failures.documented(404, 409)
    too_large = failures.documented(413)

    @router.post(
        "/{name}/fold-in", response_model=schemas.FoldedVector, responses=refused | too_large
    )
    def a_vector_for_a_history(
        name: Name,
        history: History,
        k: FoldedK = None,
        version: Reference = LATEST,
        space: Space = None,
        dim: Dim = None,
    ) -> Response:
        """By the formula of the nightly fold-in. Unknown producers are left out and listed."""
        found = finder.find(name, version)
        strengths, features = history.strengths, history.features
        folded = responses.fold_in(registry, found, strengths, k, space, dim, features)
        return JSONResponse(folded)

    @router.get("/{name}/lookalike", response_model=schemas.Lookalikes, responses=refused)
    def producers_for_a_newcomer(
        name: Name,
        group: Groups,
        candidate: Producers = None,
        k: K = 10,
        by: By = "mean",
        version: Reference = LATEST,
        space: Space = None,
        dim: Dim = None,
    ) -> Response:
        """By the groups that the newcomer belongs to; without candidates, among all producers."""
        found = finder.find(name, version)
        scored = responses.lookalike(registry, found, group, candidate or [], k, by, space, dim)
        return JSONResponse(scored)

    return router


def _nearest(registry: Registry, finder: Finder) -> APIRouter:
    """Routes for the neighbours of a vector."""
    router = APIRouter(prefix=EMBEDDINGS, tags=["vectors"])
    refused = failures.documented(404, 409)
    too_large = failures.documented(413)

    @router.get("/{name}/neighbours", response_model=schemas.Neighbours, responses=refused)
    def the_nearest_vectors(
        name: Name,
        id: Key,
        k: K = 10,
        among: Among = None,
        only: Only = None,
        version: Reference = LATEST,
        space: Space = None,
        dim: Dim = None,
        exact: Exact = False,
        where: Conditions = None,
    ) -> Response:
        """By cosine, best first, without the id itself."""
        found = finder.find(name, version)
        conditions = filters.parsed(where or [])
        near = responses.neighbours(
            registry, found, id, k, among, space, dim, only, exact, conditions
        )
        return JSONResponse(near)

    @router.post(
        "/{name}/neighbours", response_model=schemas.Neighbours, responses=refused | too_large
    )
    def the_nearest_of_chosen_vectors(
        name: Name,
        request: NeighboursRequest,
        id: Key,
        k: K = 10,
        among: Among = None,
        version: Reference = LATEST,
        space: Space = None,
        dim: Dim = None,
        exact: Exact = False,
    ) -> Response:
        """The same, with more ids or conditions than an address has room for."""
        found = finder.find(name, version)
        near = responses.neighbours(
            registry, found, id, k, among, space, dim, request.only, exact, request.where
        )
        return JSONResponse(near)

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
