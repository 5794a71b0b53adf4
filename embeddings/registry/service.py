"""The registry over HTTP: JSON below /api for programs, pages for people.

Reading is open to whoever reaches the port; the one write, moving an alias, needs the token. Start it with
    EVERGREEN_REGISTRY_ROOT=... uvicorn --factory embeddings.registry.service:app_from_environment
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from embeddings.registry import pages
from embeddings.registry import responses as answers
from embeddings.registry.client import Registry
from embeddings.registry.errors import (
    BadRequest,
    CatalogError,
    NotFound,
    RegistryError,
    SpaceMismatch,
)
from embeddings.registry.versions import LATEST

MAX_IDS = 1000  # in one request
MAX_NEIGHBOURS = 1000
MAX_GROUPS = 100
STATUS: dict[type[RegistryError], int] = {
    NotFound: 404,
    BadRequest: 422,
    SpaceMismatch: 409,
    CatalogError: 503,
}

Which = Annotated[
    str, Query(max_length=100, description="a day, a revision (2022-04-25.r1) or an alias")
]
Who = Annotated[str, Query(max_length=1000, description="entity:id, as in producer:1196")]
Id = Annotated[str, Query(max_length=1000, description="of a producer, as in 1196")]
Group = Annotated[str, Query(max_length=1000, description="as in user_active_degree=full_active")]


class AliasRequest(BaseModel):
    alias: str = Field(max_length=100)
    version: str = Field(
        max_length=100, description="a day, a revision (2022-04-25.r1) or an alias"
    )


class History(BaseModel):
    strengths: dict[str, float] = Field(
        min_length=1, max_length=10_000, description="producer id -> strength, > 0"
    )


def app_from_environment() -> FastAPI:
    """The service as EVERGREEN_REGISTRY_ROOT, _CATALOG_URL (default: SQLite below the root) and _TOKEN describe it."""
    if not (root := os.environ.get("EVERGREEN_REGISTRY_ROOT")):
        raise RegistryError(
            "EVERGREEN_REGISTRY_ROOT is not set; it names the folder with the registry's files."
        )
    url = (
        os.environ.get("EVERGREEN_REGISTRY_CATALOG_URL") or f"sqlite:///{Path(root) / 'catalog.db'}"
    )
    return create_app(Path(root), url, os.environ.get("EVERGREEN_REGISTRY_TOKEN", ""))


def create_app(root: Path, url: str, token: str = "") -> FastAPI:
    """The service on one registry. token: what a write must carry; without one every write is refused."""
    registry = Registry(root, url)
    app = FastAPI(
        title="Evergreen registry", docs_url=None, redoc_url=None
    )  # their pages load assets from elsewhere
    _answer_errors(app)
    pages.add(app, registry)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "embeddings": len(registry.names())}

    @app.get("/api/embeddings")
    def names() -> list[dict[str, Any]]:
        return answers.overview(registry)

    @app.get("/api/embeddings/{name}/versions")
    def versions(name: str) -> list[dict[str, Any]]:
        aliases = registry.aliases(name)
        return [answers.describe(version, aliases) for version in registry.versions(name)]

    @app.get("/api/embeddings/{name}/versions/{version}")
    def version_detail(name: str, version: str) -> dict[str, Any]:
        return answers.describe(registry.find(name, version), registry.aliases(name))

    @app.get("/api/embeddings/{name}/aliases")
    def aliases(name: str) -> dict[str, str]:
        return {alias: version.id for alias, version in registry.aliases(name).items()}

    @app.get("/api/embeddings/{name}/vectors")
    def vectors(
        name: str,
        id: Annotated[list[Who], Query(min_length=1, max_length=MAX_IDS)],
        version: Which = LATEST,
        space: Annotated[
            str | None, Query(description="the space they will be used in; another is refused")
        ] = None,
    ) -> Response:
        found = registry.find(name, version)
        registry.load(found, space=space)
        return JSONResponse(answers.vectors(registry, found, id))

    @app.get("/api/embeddings/{name}/neighbours")
    def neighbours(
        name: str,
        id: Who,
        k: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)] = 10,
        among: str | None = None,
        version: Which = LATEST,
    ) -> Response:
        return JSONResponse(
            answers.neighbours(registry, registry.find(name, version), id, k, among)
        )

    @app.post("/api/embeddings/{name}/fold-in")
    def fold_in(name: str, history: History, version: Which = LATEST) -> Response:
        return JSONResponse(
            answers.fold_in(registry, registry.find(name, version), history.strengths)
        )

    @app.get("/api/embeddings/{name}/lookalike")
    def lookalike(
        name: str,
        group: Annotated[list[Group], Query(min_length=1, max_length=MAX_GROUPS)],
        candidate: Annotated[list[Id] | None, Query(max_length=MAX_IDS)] = None,
        k: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)] = 10,
        by: str = "mean",
        version: Which = LATEST,
    ) -> Response:
        found = answers.lookalike(
            registry, registry.find(name, version), group, candidate or [], k, by
        )
        return JSONResponse(found)

    @app.post("/api/embeddings/{name}/aliases", dependencies=[Depends(_guard(token))])
    def set_alias(name: str, request: AliasRequest) -> dict[str, Any]:
        registry.set_alias(name, request.alias, registry.find(name, request.version))
        return answers.describe(registry.alias(name, request.alias), registry.aliases(name))

    return app


def _guard(token: str):
    """A dependency that lets only bearers of the token pass."""

    def check(authorization: Annotated[str, Header()] = "") -> None:
        if not token:
            raise HTTPException(
                403,
                "Writes are refused: the service was started without a token. Set one and restart.",
            )
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(
                401,
                "A write needs the header 'Authorization: Bearer TOKEN'.",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def _answer_errors(app: FastAPI) -> None:
    """Every error as one sentence with its status: JSON below /api, a page elsewhere."""

    def answer(
        request: Request, status: int, error: str, detail: str, near: list[str], headers=None
    ) -> Response:
        if request.url.path.startswith("/api/"):
            body = {"error": error, "detail": detail, "near": near}
            return JSONResponse(body, status, headers=headers)
        return pages.error(request, status, detail)

    @app.exception_handler(RegistryError)
    def registry_error(request: Request, error: RegistryError) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return answer(request, status, type(error).__name__, str(error), getattr(error, "near", []))

    @app.exception_handler(RequestValidationError)
    def bad_request(request: Request, error: RequestValidationError) -> Response:
        faults = (
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r:.200})"
            for e in error.errors()
        )
        return answer(request, 422, "BadRequest", "; ".join(faults), [])

    @app.exception_handler(DBAPIError)
    def no_catalog(request: Request, error: DBAPIError) -> Response:
        return answer(
            request, 503, "CatalogError", "The catalog does not answer. Is its server up?", []
        )

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, "HTTPError", str(error.detail), [], error.headers)
