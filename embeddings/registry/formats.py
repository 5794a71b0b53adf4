"""How vectors are answered: JSON for people, or an Arrow stream for programs that read many."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from fastapi.responses import JSONResponse, Response, StreamingResponse

from embeddings.registry.arrow import ARROW, arrow_stream
from embeddings.registry.errors import NotAcceptable
from embeddings.registry.responses import Found, records, source

JSON = "application/json"
OFFERED = (JSON, ARROW)  # the first one is the default
VARY = {"Vary": "Accept"}
BLOCK = 1000  # rows that are JSON text at a time: 100,000 of them would be hundreds of megabytes


def chosen(accept: str, offered: Sequence[str] = OFFERED) -> str:
    """The offered media type that a client prefers. Raises NotAcceptable if it accepts none.

    accept: the header, empty if there is none. Of equal ones the first offered is chosen.
    """
    ranges = _ranges(accept) if accept.strip() else {"*/*": 1.0}
    best = max(offered, key=lambda media_type: _quality(ranges, media_type))
    if _quality(ranges, best) <= 0:
        raise NotAcceptable(
            f"This is not answered as {accept[:200]!r}. "
            f"Accept {' or '.join(offered)}, or send no Accept header."
        )
    return best


def _ranges(accept: str) -> dict[str, float]:
    """Each media range of an Accept header, and its q; a range with an invalid q is left out."""
    ranges = {}
    for part in accept.split(","):
        media_range, *parameters = [text.strip().lower() for text in part.split(";")]
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _number(value)
        if 0 <= quality <= 1:
            ranges[media_range] = quality
    return ranges


def _number(text: str) -> float:
    """The number that a text is, -1 if it is none."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def _quality(ranges: dict[str, float], media_type: str) -> float:
    """The q of a media type: that of the most specific range that covers it, 0 without one."""
    family = media_type.partition("/")[0]
    for media_range in (media_type, f"{family}/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0


def answer(found: Found, media_type: str) -> Response:
    """The response with these vectors."""
    if media_type == ARROW:
        return Response(arrow_stream(found), media_type=ARROW, headers=VARY)
    if len(found.ids) <= BLOCK:
        body = {**source(found.version), "vectors": records(found)}
        return JSONResponse(body, headers=VARY)
    return StreamingResponse(_json_blocks(found), media_type=JSON, headers=VARY)


def _json_blocks(found: Found) -> Iterator[bytes]:
    """The JSON of `schemas.Vectors`, block by block."""
    yield _json(source(found.version))[:-1] + b',"vectors":['
    for start in range(0, len(found.ids), BLOCK):
        block = _json(records(found, start, start + BLOCK))
        yield (b"," if start else b"") + block[1:-1]
    yield b"]}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
