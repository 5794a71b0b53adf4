"""What the service refuses before any route sees it: requests too large, or not valid Unicode."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embeddings.registry import failures
from embeddings.registry.arrow import MAX_BULK_IDS
from embeddings.registry.errors import BadRequest, RegistryError, TooLarge

MAX_BODY_BYTES = 16 << 20  # room for MAX_BULK_IDS ids of 160 bytes
# Path and query. From 64 KiB on, uvicorn refuses an address itself, without saying why.
MAX_ADDRESS_BYTES = 60_000
# A client that is still sending would not read the answer, so this much more is read, not kept.
MAX_DISCARDED_BYTES = 256 << 20
HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # how JSON escapes what may be half a surrogate


class Limited:
    """Middleware that reads a request's body, up to the limit, and checks its text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        address = scope.get("raw_path", b"") + b"?" + scope["query_string"]
        if len(address) > MAX_ADDRESS_BYTES:
            await _refuse(scope, receive, send, 414, _too_long())
            return
        try:
            _check_unicode("The address", unquote_to_bytes(address))
            headers = Headers(scope=scope)
            if "content-length" in headers or "transfer-encoding" in headers:
                body = await _read(headers, receive)
                _check_unicode("The body", body)
                _check_escapes(body)
                receive = _again(body, receive)
        except RegistryError as error:
            await _refuse(scope, receive, send, failures.status_of(error), error)
            return
        await self.app(scope, receive, send)


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, error: RegistryError
) -> None:
    response: Response = failures.answer(Request(scope), status, type(error).__name__, str(error))
    if status == 413:
        response.headers["Connection"] = "close"  # part of the body may never have been read
    await response(scope, receive, send)


async def _read(headers: Headers, receive: Receive) -> bytes:
    """The body. Raises TooLarge, with or without a Content-Length."""
    declared = headers.get("content-length", "")
    too_large = declared.isdigit() and int(declared) > MAX_BODY_BYTES
    if too_large and "expect" in headers:
        raise _too_large()  # the client waits before it sends the body
    chunks = []
    size = 0
    more = True
    while more and size <= MAX_DISCARDED_BYTES:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        too_large = too_large or size > MAX_BODY_BYTES
        if not too_large:
            chunks.append(chunk)
        more = message.get("more_body", False)
    if too_large:
        raise _too_large()
    return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    """A channel that delivers the body that was read, then what follows."""
    delivered = False

    async def channel() -> Message:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return channel


def _too_large() -> TooLarge:
    return TooLarge(
        f"The body has more than {MAX_BODY_BYTES:,} bytes. Send fewer ids in one request: "
        f"at most {MAX_BULK_IDS:,}."
    )


def _too_long() -> TooLarge:
    return TooLarge(
        f"The address has more than {MAX_ADDRESS_BYTES:,} bytes. "
        "Send many ids in the body of a POST to .../vectors or .../neighbours instead."
    )


def _check_unicode(what: str, text: bytes) -> None:
    """Raises BadRequest unless the text is UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"{what} is not valid UTF-8: {error.reason} at byte {error.start} of {len(text)}."
        ) from None


def _check_escapes(body: bytes) -> None:
    """Raises BadRequest if JSON escapes half of a surrogate pair, which no answer could repeat."""
    if not HALF_OF_A_PAIR.search(body):
        return
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise BadRequest(
            f"The body must not contain a lone surrogate ({half!a}): it is half of a character."
        ) from None
    except (ValueError, RecursionError):
        pass  # not JSON at all, which the route says
