"""The registry over HTTP: JSON below /api for programs, pages for people.

Anyone who can reach the port can read. The only write, moving an alias, requires the token. Start
the service with

    EVERGREEN_REGISTRY_ROOT=... uvicorn --factory embeddings.registry.service:app_from_environment
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from embeddings.registry import pages, responses
from embeddings.registry.aliases import REASON_LENGTH
from embeddings.registry.client import Registry
from embeddings.registry.errors import (
    BadRequest,
    CatalogError,
    NotFound,
    RegistryError,
    SpaceMismatch,
)
from embeddings.registry.versions import LATEST

# Limits of one request, whose response is built in memory.
MAX_IDS = 1000
MAX_NEIGHBOURS = 1000
MAX_GROUPS = 100  # the work per producer is proportional to it
STATUS: dict[type[RegistryError], int] = {
    NotFound: 404,
    BadRequest: 422,
    SpaceMismatch: 409,
    CatalogError: 503,
}

Reference = Annotated[
    str, Query(max_length=100, description="a day, a revision (2022-04-25.r1) or an alias")
]
Key = Annotated[str, Query(max_length=1000, description="entity:id, as in producer:1196")]
ProducerId = Annotated[str, Query(max_length=1000, description="of a producer, as in 1196")]
Group = Annotated[str, Query(max_length=1000, description="as in user_active_degree=full_active")]
Alias = Annotated[str | None, Query(max_length=100, description="an alias; by default all of them")]
Space = Annotated[
    str | None,
    Query(description="the space in which the vectors will be used; any other is refused"),
]


class AliasRequest(BaseModel):
    alias: str = Field(max_length=100)
    version: str = Field(
        max_length=100, description="a day, a revision (2022-04-25.r1) or an alias"
    )
    reason: str = Field(
        "", max_length=REASON_LENGTH, description="one line, kept in the alias's history"
    )


def _valid_unicode(text: str) -> str:
    """The text. Raises ValueError for half a surrogate pair: JSON can escape it, UTF-8 has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("an id must not contain a lone surrogate") from None
    return text


class History(BaseModel):
    strengths: dict[Annotated[str, AfterValidator(_valid_unicode)], float] = Field(
        min_length=1, max_length=10_000, description="producer id -> strength, > 0"
    )


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
    """
    registry = Registry(root, url)
    # No interactive API docs: their pages load scripts from another host.
    app = FastAPI(title="Evergreen registry", docs_url=None, redoc_url=None)
    _handle_errors(app)
    pages.add(app, registry)
    _add_catalog_routes(app, registry)
    _add_vector_routes(app, registry)

    @app.post("/api/embeddings/{name}/aliases", dependencies=[Depends(_guard(token))])
    def set_alias(name: str, request: AliasRequest) -> dict[str, Any]:
        version = registry.find(name, request.version)
        moved = registry.set_alias(name, request.alias, version, reason=request.reason)
        return responses.detail(registry, moved)

    return app


def _add_catalog_routes(app: FastAPI, registry: Registry) -> None:
    """What is published: embeddings, versions, aliases and their history."""

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "embeddings": len(registry.names())}

    @app.get("/api/embeddings")
    def names() -> list[dict[str, Any]]:
        return responses.overview(registry)

    @app.get("/api/embeddings/{name}/versions")
    def versions(name: str) -> list[dict[str, Any]]:
        return responses.versions(registry, name)

    @app.get("/api/embeddings/{name}/versions/{version}")
    def version_detail(name: str, version: str) -> dict[str, Any]:
        return responses.detail(registry, registry.find(name, version))

    @app.get("/api/embeddings/{name}/aliases")
    def aliases(name: str) -> dict[str, str]:
        return {alias: version.id for alias, version in registry.aliases(name).items()}

    @app.get("/api/embeddings/{name}/history")
    def history(name: str, alias: Alias = None) -> list[dict[str, Any]]:
        return responses.history(registry, name, alias)


def _add_vector_routes(app: FastAPI, registry: Registry) -> None:
    """What is computed from one version's vectors.

    These routes return a Response, else FastAPI would validate every number of a vector.
    """

    @app.get("/api/embeddings/{name}/vectors")
    def vectors(
        name: str,
        id: Annotated[list[Key], Query(min_length=1, max_length=MAX_IDS)],
        version: Reference = LATEST,
        space: Space = None,
    ) -> Response:
        found = registry.find(name, version)
        registry.load(found, space=space)  # raises SpaceMismatch
        return JSONResponse(responses.vectors(registry, found, id))

    @app.get("/api/embeddings/{name}/neighbours")
    def neighbours(
        name: str,
        id: Key,
        k: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)] = 10,
        among: str | None = None,
        version: Reference = LATEST,
    ) -> Response:
        found = registry.find(name, version)
        return JSONResponse(responses.neighbours(registry, found, id, k, among))

    @app.post("/api/embeddings/{name}/fold-in")
    def fold_in(name: str, history: History, version: Reference = LATEST) -> Response:
        found = registry.find(name, version)
        return JSONResponse(responses.fold_in(registry, found, history.strengths))

    @app.get("/api/embeddings/{name}/lookalike")
    def lookalike(
        name: str,
        group: Annotated[list[Group], Query(min_length=1, max_length=MAX_GROUPS)],
        candidate: Annotated[list[ProducerId] | None, Query(max_length=MAX_IDS)] = None,
        k: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)] = 10,
        by: str = "mean",
        version: Reference = LATEST,
    ) -> Response:
        found = registry.find(name, version)
        scored = responses.lookalike(registry, found, group, candidate or [], k, by)
        return JSONResponse(scored)


def _guard(token: str) -> Callable[..., None]:
    """A dependency that rejects requests without the token."""

    def check(authorization: Annotated[str, Header()] = "") -> None:
        if not token:
            raise HTTPException(
                403,
                "Writes are refused: the service was started without a token. Set one and restart.",
            )
        # Takes the same time wherever the texts differ, so the token cannot be guessed by timing.
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(
                401,
                "A write needs the header 'Authorization: Bearer TOKEN'.",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def _handle_errors(app: FastAPI) -> None:
    """Answer every error with its message and status: as JSON below /api, else as a page."""

    def respond(
        request: Request,
        status: int,
        error: str,
        detail: str,
        near: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        if not request.url.path.startswith("/api/"):
            return pages.error(request, status, detail)
        body = {"error": error, "detail": detail, "near": list(near)}
        return JSONResponse(body, status, headers=headers)

    @app.exception_handler(RegistryError)
    def registry_error(request: Request, error: RegistryError) -> Response:
        near = error.near if isinstance(error, NotFound) else []
        return respond(request, status_of(error), type(error).__name__, str(error), near)

    @app.exception_handler(RequestValidationError)
    def bad_request(request: Request, error: RequestValidationError) -> Response:
        faults = []
        for fault in error.errors():
            place = ".".join(map(str, fault["loc"]))
            faults.append(f"{place}: {fault['msg']} (given: {fault['input']!r:.200})")
        # `place` may contain a key that UTF-8 cannot express.
        detail = "; ".join(faults).encode("utf-8", "backslashreplace").decode()
        return respond(request, 422, "BadRequest", detail)

    @app.exception_handler(DBAPIError)
    def no_catalog(request: Request, error: DBAPIError) -> Response:
        detail = "The catalog does not respond. Is its server running?"
        return respond(request, 503, "CatalogError", detail)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        detail = str(error.detail)
        return respond(request, error.status_code, "HTTPError", detail, headers=error.headers)


def status_of(error: RegistryError) -> int:
    """The HTTP status of an error; 500 for those that the client did not cause."""
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            return status
    return 500
