"""The registry over HTTP: a real server, asked as a client would."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_parts import SPACE, TOKEN, free_port, parts, publish
from sqlalchemy import text

from embeddings.registry import responses as answers
from embeddings.registry.errors import RegistryError
from embeddings.registry.service import app_from_environment


@pytest.fixture
def client(service, plain):
    """A client of a service on which one version is published."""
    publish(plain, commit="abc")
    with httpx.Client(base_url=service) as opened:
        yield opened


def test_health(client):
    assert client.get("/health").json() == {"status": "ok", "embeddings": 1}


def test_the_service_describes_what_the_client_describes(client, plain):
    version = answers.describe(plain.version("author"), plain.aliases("author"))
    assert client.get("/api/embeddings").json() == answers.overview(plain)
    assert client.get("/api/embeddings/author/versions").json() == [version]
    for which in ("latest", "2022-04-25", "2022-04-25.r1"):
        assert client.get(f"/api/embeddings/author/versions/{which}").json() == version
    assert version["lineage"] == {"commit": "abc"}


def test_vectors_come_with_what_they_rest_on(client):
    consumer = parts()[0]["consumer"]
    answer = client.get(
        "/api/embeddings/author/vectors", params={"id": ["consumer:c2", "producer:p0"]}
    ).json()
    assert (answer["version"], answer["space"]) == ("author/2022-04-25.r1", SPACE)
    assert answer["vectors"][0] == {
        "entity": "consumer",
        "id": "c2",
        "count": int(consumer.counts[2]),
        "folded": True,
        "vector": consumer.vectors[2].tolist(),
    }


def test_vectors_for_another_space_are_refused(client):
    params = {"id": "consumer:c2", "space": "author/other"}
    refused = client.get("/api/embeddings/author/vectors", params=params)
    assert (refused.status_code, refused.json()["error"]) == (409, "SpaceMismatch")


def test_neighbours_are_those_of_the_client(client, plain):
    params = {"id": "producer:p1", "k": 3, "among": "consumer"}
    answer = client.get("/api/embeddings/author/neighbours", params=params).json()
    assert answer["neighbours"] == [
        vars(n) for n in plain.neighbours("author", "producer:p1", 3, among="consumer")
    ]


def test_fold_in_is_that_of_the_client(client, plain):
    answer = client.post(
        "/api/embeddings/author/fold-in", json={"strengths": {"p1": 2, "x": 1}}
    ).json()
    assert answer["vector"] == plain.fold_in("author", {"p1": 2}).vector.tolist()
    assert answer["unknown"] == ["x"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/api/embeddings/autor/versions", ["author"]),
        ("/api/embeddings/author/versions/2022-04-26", ["2022-04-25"]),
        ("/api/embeddings/author/vectors?id=producer:p11", ["producer:p1"]),
        ("/api/embeddings/author/neighbours?id=producers:p1", ["producer"]),
    ],
)
def test_what_is_unknown_is_404_with_near_misses(client, path, near):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["near"][: len(near)] == near


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/embeddings/author/neighbours?id=p1", "as in producer:1196"),
        (
            "/api/embeddings/author/neighbours?id=producer:p1&k=0",
            "query.k: Input should be greater",
        ),
        ("/api/embeddings/author/neighbours?id=producer:p1&k=many", "given: 'many'"),
        ("/api/embeddings/author/vectors", "query.id: Field required"),
        ("/api/embeddings/author/versions/2022-02-30", "no day of the calendar"),
    ],
)
def test_what_cannot_be_meant_is_422(client, path, told):
    answer = client.get(path)
    assert (answer.status_code, told in answer.json()["detail"]) == (422, True), answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"strengths": {}}', b'{"strengths": {"p1": -1}}']
)
def test_a_history_that_is_none_is_422(client, body):
    assert client.post("/api/embeddings/author/fold-in", content=body).status_code == 422


def test_only_the_token_moves_an_alias(client, plain):
    ask = {
        "url": "/api/embeddings/author/aliases",
        "json": {"alias": "serving", "version": "2022-04-25"},
    }
    assert client.post(**ask).status_code == 401
    assert client.post(**ask, headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert list(plain.aliases("author")) == ["latest"]
    moved = client.post(**ask, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (moved.status_code, moved.json()["aliases"]) == (200, ["latest", "serving"])
    assert client.get("/api/embeddings/author/aliases").json()["serving"] == "author/2022-04-25.r1"


def test_latest_cannot_be_moved_by_hand(client):
    ask = {"alias": "latest", "version": "2022-04-25"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    refused = client.post("/api/embeddings/author/aliases", json=ask, headers=headers)
    assert (refused.status_code, "publishing alone" in refused.json()["detail"]) == (422, True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30), k=st.text(max_size=5))
def test_no_text_breaks_the_service(client, text, k):
    """Whatever is typed is found, unknown or refused; never a failure of the server."""
    text = text.encode("utf-8", "replace").decode()
    quoted = str(httpx.URL("http://h").copy_with(params={"x": text}).query[2:], "ascii")
    asked = [
        client.get(f"/api/embeddings/{quoted}/versions"),
        client.get(f"/api/embeddings/author/versions/{quoted}"),
        client.get(
            "/api/embeddings/author/vectors", params={"id": f"producer:{text}", "version": "latest"}
        ),
        client.get("/api/embeddings/author/neighbours", params={"id": text, "k": k, "among": text}),
        client.get("/embeddings/author/latest", params={"entity": text, "id": text, "among": text}),
        client.post("/api/embeddings/author/fold-in", json={"strengths": {text: 1.0, "p1": 1.0}}),
    ]
    assert {answer.status_code for answer in asked} <= {200, 307, 404, 422}


def test_a_lone_surrogate_in_json_is_refused(client):
    answer = client.post(
        "/api/embeddings/author/fold-in", content=b'{"strengths": {"\\ud800": 1, "p1": 1}}'
    )
    assert answer.status_code in (200, 422)


def test_ids_never_reach_paths(client):
    for name in ("..%2F..%2Fetc%2Fpasswd", "%2E%2E", "catalog.db", "_staging"):
        assert client.get(f"/api/embeddings/{name}/versions").status_code == 404
        assert client.get(f"/embeddings/{name}").status_code == 404


def test_a_page_shows_markup_as_text(client):
    page = client.get(
        "/embeddings/author/latest",
        params={"entity": "producer", "id": "<script>alert(1)</script>"},
    )
    assert page.status_code == 404
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_catalog_that_fails_is_503_in_json_and_as_a_page(client, plain):
    with plain.catalog.writing() as session:
        session.execute(text("ALTER TABLE versions RENAME TO gone"))
    for path in ("/api/embeddings", "/"):
        failed = client.get(path)
        assert (failed.status_code, "catalog does not answer" in failed.text) == (503, True)


def test_a_damaged_version_is_500_and_named(client, plain):
    (plain.version("author").path / "producer/shard-00000/ids.npy").unlink()
    failed = client.get("/api/embeddings/author/vectors?id=producer:p1")
    assert (failed.status_code, failed.json()["error"]) == (500, "DamagedVersion")


def test_without_a_root_the_service_says_what_is_missing(monkeypatch):
    monkeypatch.delenv("EVERGREEN_REGISTRY_ROOT", raising=False)
    with pytest.raises(RegistryError, match="EVERGREEN_REGISTRY_ROOT is not set"):
        app_from_environment()


def test_started_as_the_process_file_starts_it(plain, root):
    """uvicorn with the factory, configured by the environment; without a token, writes are refused."""
    publish(plain)
    port = free_port()
    command = [
        "uvicorn",
        "--factory",
        "embeddings.registry.service:app_from_environment",
        "--port",
        str(port),
    ]
    environment = {
        **os.environ,
        "EVERGREEN_REGISTRY_ROOT": str(root),
        "EVERGREEN_REGISTRY_TOKEN": "",
    }
    process = subprocess.Popen([sys.executable, "-m", *command], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert healthy(client)
            ask = {"alias": "serving", "version": "latest"}
            refused = client.post(
                "/api/embeddings/author/aliases", json=ask, headers={"Authorization": "Bearer x"}
            )
            assert (refused.status_code, "without a token" in refused.json()["detail"]) == (
                403,
                True,
            )
    finally:
        process.terminate()
        process.wait(30)


def healthy(client: httpx.Client, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return client.get("/health").json()["status"] == "ok"
        except httpx.TransportError:
            time.sleep(0.1)
    return False
