"""How the service answers errors: status, kind, message and near misses; or a page for people."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException

from embeddings.registry import pages, schemas
from embeddings.registry.errors import (
    BadRequest,
    CatalogError,
    Forbidden,
    NotAcceptable,
    NotFound,
    NotWritten,
    RegistryError,
    SpaceMismatch,
    TooLarge,
    Unauthorized,
)
from embeddings.storage.objects import StoreError

STATUS: dict[type[RegistryError], int] = {
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    NotAcceptable: 406,
    SpaceMismatch: 409,
    TooLarge: 413,
    BadRequest: 422,
    CatalogError: 503,
    NotWritten: 507,
}
MEANING = {
    401: "The token is missing or wrong.",
    403: "The service was started without a token, so it refuses every write.",
    404: "There is no embedding, version, entity or id of that name.",
    406: "This is not answered in that format.",
    409: "The version is in another space than the requested one.",
    413: "The body is too large.",
    414: "The address is too long.",
    422: "The request is invalid.",
    500: "The version's files are damaged.",
    503: "The catalog, or the bucket with the files, cannot be read.",
    507: "The disk is full or read-only; nothing was changed.",
}
# Answered in JSON; all other paths are pages.
PROGRAMS = ("/v1/", "/healthz", "/metrics")
FAULTS = 10  # the most invalid places that a message lists


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of these error statuses."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"model": schemas.Error, "description": MEANING[status]}
    return described


def answer(
    request: Request, status: int, kind: str, detail: str, near: Sequence[str] = ()
) -> Response:
    """The answer to a request that fails: JSON for programs, a page for people."""
    if not request.url.path.startswith(PROGRAMS):
        return pages.error(request, status, detail)
    body = {"error": kind, "detail": detail, "near": list(near)}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(body, status, headers=headers)


def handle(app: FastAPI) -> None:
    """Answer every error with its message and status."""

    @app.exception_handler(RegistryError)
    def registry_error(request: Request, error: RegistryError) -> Response:
        near = error.near if isinstance(error, NotFound) else []
        return answer(request, status_of(error), type(error).__name__, str(error), near)

    @app.exception_handler(RequestValidationError)
    def bad_request(request: Request, error: RequestValidationError) -> Response:
        faults = [_fault(fault) for fault in error.errors()[:FAULTS]]
        return answer(request, 422, "BadRequest", "; ".join(faults))

    @app.exception_handler(SQLAlchemyError)
    def no_catalog(request: Request, error: SQLAlchemyError) -> Response:
        cause = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
        detail = f"The catalog does not respond: {cause}. Is its server running?"
        return answer(request, 503, "CatalogError", detail)

    @app.exception_handler(StoreError)
    def no_store(request: Request, error: StoreError) -> Response:
        return answer(request, 503, "StoreError", str(error))

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        status, kind, detail = _of_framework(request, error)
        response = answer(request, status, kind, detail)
        response.headers.update(error.headers or {})
        return response


def _of_framework(request: Request, error: HTTPException) -> tuple[int, str, str]:
    """Status, kind and message of an error that was raised outside of the registry."""
    if error.status_code == 404:
        detail = f"There is no {request.url.path[:200]}. GET /openapi.json describes what there is."
        return 404, "UnknownRoute", detail
    if error.status_code == 400:  # FastAPI could not parse the body, for a reason that is no syntax
        return 422, "BadRequest", f"The body cannot be read as JSON: {error.__cause__}."
    return error.status_code, "HTTPError", f"{error.detail}."


def _fault(fault: dict[str, Any]) -> str:
    """One invalid place of a request, and what was given there, shortened."""
    # A key of the body may be long, and may contain what UTF-8 cannot express.
    keys = ".".join(map(str, fault["loc"]))[:200]
    place = keys.encode("utf-8", "backslashreplace").decode()
    return f"{place}: {fault['msg']} (given: {reprlib.repr(fault['input'])})"


def status_of(error: RegistryError) -> int:
    """The HTTP status of an error; 500 for those that the client did not cause."""
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            return status
    return 500
