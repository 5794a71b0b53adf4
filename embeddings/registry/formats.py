"""How much is answered: as JSON for people, or an Arrow stream for programs that read many."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from fastapi.responses import JSONResponse, Response, StreamingResponse

from embeddings.registry.arrow import ARROW, arrow_stream, features_stream
from embeddings.registry.errors import NotAcceptable
from embeddings.registry.features import Features
from embeddings.registry.responses import Found, feature_rows, records, source, sources

JSON = "application/json"
OFFERED = (JSON, ARROW)  # the first one is the default
VARY = {"Vary": "Accept"}
BLOCK = 1000  # rows that are JSON text at a time: 100,000 of them would be hundreds of megabytes
Rows = Callable[[int, int], list[dict[str, Any]]]  # the records from a row to before another


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
    head = {**source(found.version), "shortened_by": found.shortened_by}
    return _json_answer(head, "vectors", partial(records, found), len(found.ids))


def answer_features(found: Features, media_type: str) -> Response:
    """The response with these features."""
    if media_type == ARROW:
        return Response(features_stream(found), media_type=ARROW, headers=VARY)
    return _json_answer(sources(found), "rows", partial(feature_rows, found), len(found.ids))


def _json_answer(head: dict[str, Any], field: str, rows: Rows, n: int) -> Response:
    """An object with the head's fields and n rows, which are text at once only if they are few."""
    if n <= BLOCK:
        return JSONResponse({**head, field: rows(0, n)}, headers=VARY)
    return StreamingResponse(_json_blocks(head, field, rows, n), media_type=JSON, headers=VARY)


def _json_blocks(head: dict[str, Any], field: str, rows: Rows, n: int) -> Iterator[bytes]:
    """The same JSON, block by block."""
    yield _json(head)[:-1] + b"," + _json(field) + b":["
    for start in range(0, n, BLOCK):
        block = _json(rows(start, start + BLOCK))
        yield (b"," if start else b"") + block[1:-1]
    yield b"]}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
