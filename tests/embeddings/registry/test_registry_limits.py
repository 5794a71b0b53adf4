"""Requests that are too large or are not text are refused by name, soon and in little memory."""

from __future__ import annotations

import http.client
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from registry_parts import publish

from embeddings.registry.limits import MAX_ADDRESS_BYTES, MAX_BODY_BYTES

VECTORS = "/v1/embeddings/author/vectors"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(service, plain):
    publish(plain)
    with httpx.Client(base_url=service, timeout=60) as opened:
        yield opened


def many_ids(n: int) -> bytes:
    return json.dumps({"entity": "producer", "ids": [f"producer-{i}" for i in range(n)]}).encode()


def chunks(body: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_million_ids_are_refused_soon_and_in_little_memory(client, chunked):
    body = many_ids(1_000_000)
    content = chunks(body) if chunked else body
    client.get("/healthz")
    tracemalloc.start()
    try:
        started = time.process_time()
        refused = client.post(VECTORS, content=content, headers=JSON)
        took_s = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (refused.status_code, refused.json()["error"]) == (413, "TooLarge")
    assert f"{MAX_BODY_BYTES:,} bytes" in refused.json()["detail"]
    assert took_s < 5
    assert peak < 2 * MAX_BODY_BYTES
    assert client.get("/healthz").status_code == 200


def test_a_million_short_ids_are_refused_by_their_number(client):
    """They fit into the limit of bytes."""
    body = b'{"entity":"producer","ids":["1"' + b',"1"' * 999_999 + b"]}"
    refused = client.post(VECTORS, content=body, headers=JSON)
    assert (refused.status_code, refused.json()["error"]) == (422, "BadRequest")
    assert "at most 100000 items" in refused.json()["detail"]
    assert len(refused.text) < 1000


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(client):
    for size, status in ((MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)):
        body = b'{"entity": "producer", "ids": ["p1"]}'.ljust(size)
        assert client.post(VECTORS, content=body, headers=JSON).status_code == status
        answered = client.post(VECTORS, content=chunks(body), headers=JSON)
        assert answered.status_code == status


def test_a_client_that_asks_first_is_refused_before_it_sends(service, client):
    """As curl does: Expect: 100-continue."""
    address = urlsplit(service)
    with socket.create_connection((address.hostname, address.port), timeout=10) as opened:
        opened.sendall(
            f"POST {VECTORS} HTTP/1.1\r\nHost: registry\r\nContent-Type: application/json\r\n"
            f"Content-Length: {10 * MAX_BODY_BYTES}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        response = http.client.HTTPResponse(opened)
        response.begin()
        assert response.status == 413


def test_a_long_address_is_refused(client, service):
    """By the standard library's client: httpx refuses to send one."""
    ids = "&".join(["id=producer:p1"] * (MAX_ADDRESS_BYTES // 15 + 1))
    for path in (f"{VECTORS}?{ids}", f"/v1/embeddings/{'a' * MAX_ADDRESS_BYTES}/versions"):
        connection = http.client.HTTPConnection(urlsplit(service).netloc, timeout=10)
        connection.request("GET", path)
        refused = connection.getresponse()
        error = json.loads(refused.read())
        connection.close()
        assert (refused.status, error["error"]) == (414, "TooLarge")
        assert f"{MAX_ADDRESS_BYTES:,} bytes" in error["detail"]


# Bytes that are not UTF-8: a stray byte, a text cut short, half of a surrogate pair, an overlong
# form, beyond Unicode.
NOT_UTF8 = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]


@pytest.mark.parametrize("text", NOT_UTF8)
def test_bytes_that_are_not_utf8_are_refused_wherever_they_are(client, text):
    quoted = "".join(f"%{byte:02X}" for byte in text)
    ids = b'{"entity":"producer","ids":["' + text + b'"]}'
    fold_in = f"/v1/embeddings/author/fold-in?version={quoted}"
    received = [
        client.get(f"/v1/embeddings/{quoted}/versions"),
        client.get(f"/v1/embeddings/author/versions/{quoted}"),
        client.get(f"{VECTORS}?id=producer:{quoted}"),
        client.get(f"{VECTORS}?{quoted}=1&id=producer:p1"),
        client.post(VECTORS, content=ids, headers=JSON),
        client.post(VECTORS, content=text, headers=JSON),
        client.post(fold_in, json={"strengths": {"p1": 1}}),
    ]
    for response in received:
        assert (response.status_code, response.json()["error"]) == (422, "BadRequest")
        assert "not valid UTF-8" in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"entity": "producer", "ids": ["\\ud800"]}',
        b'{"entity": "\\uDFFF", "ids": ["p1"]}',
        b'{"entity": "producer", "ids": ["p1"], "\\udc00": 1}',  # in a field that nothing reads
        b'{"entity": "producer", "ids": ["\\udc00\\ud800"]}',  # both halves, in the wrong order
    ],
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_is(client, body):
    refused = client.post(VECTORS, content=body, headers=JSON)
    assert (refused.status_code, refused.json()["error"]) == (422, "BadRequest")
    assert "lone surrogate" in refused.json()["detail"]


def test_a_whole_surrogate_pair_is_a_character(client):
    body = b'{"entity": "producer", "ids": ["\\ud83c\\udf33"]}'
    unknown = client.post(VECTORS, content=body, headers=JSON)
    assert (unknown.status_code, unknown.json()["error"]) == (404, "UnknownId")
    assert "🌳" in unknown.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 100_000,
        b'{"entity": "producer", "ids": ' + b"9" * 5000 + b"}",
        b'{"strengths": {"p1": NaN}}',
        b'{"strengths": {"p1": 1e999}}',
        b'{"strengths": {"p1": 1' + b"0" * 400 + b"}}",
        b'{"strengths": {"p1": 1e308, "p2": 1e308}}',
        b'{"strengths": "' + b"a" * 100_000 + b'"}',
        b'{"strengths": {"' + b"a" * 100_000 + b'": "x"}}',
        b"",
    ],
    ids=lambda body: body[:40].decode(),
)
def test_a_body_that_is_not_what_it_should_be_is_refused_in_few_words(client, body):
    for path in (VECTORS, "/v1/embeddings/author/fold-in"):
        refused = client.post(path, content=body, headers=JSON)
        assert (refused.status_code, refused.json()["error"]) == (422, "BadRequest")
        assert len(refused.text) < 2000


def test_a_path_that_does_not_exist_says_where_to_look(client):
    for path in ("/v1/nothing", f"{VECTORS}/more"):
        unknown = client.get(path)
        assert (unknown.status_code, unknown.json()["error"]) == (404, "UnknownRoute")
        assert "/openapi.json" in unknown.json()["detail"]
    refused = client.delete(VECTORS)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET")
