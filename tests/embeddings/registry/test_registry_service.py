"""The registry over HTTP: a real server, used through an HTTP client."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_parts import SPACE, TOKEN, parts, publish, publish_profile
from sqlalchemy import text

from embeddings.registry import responses
from embeddings.registry.arrow import ARROW
from embeddings.registry.client import Registry
from embeddings.registry.errors import RegistryError
from embeddings.registry.service import app_from_environment
from tests.http_server import serving
from tests.object_store import place_of

PROCESS_FILE = Path(__file__).parents[3] / "infra" / "Procfile"


@pytest.fixture
def client(service, plain):
    """A client of a service with one published version."""
    publish(plain, commit="abc")
    with httpx.Client(base_url=service) as opened:
        yield opened


def test_health(client, plain):
    assert client.get("/healthz").json() == {"status": "ok", "embeddings": 1}
    with plain.catalog.writing() as session:
        session.execute(text("ALTER TABLE versions RENAME TO gone"))
    sick = client.get("/healthz")
    assert (sick.status_code, sick.json()["error"]) == (503, "CatalogError")
    assert "no such table: versions" in sick.json()["detail"]


def test_the_service_describes_versions_as_the_client_does(client, plain):
    version = responses.detail(plain, plain.version("author"))
    assert client.get("/v1/embeddings").json() == responses.overview(plain)
    assert client.get("/v1/embeddings/author/versions").json() == [version]
    for reference in ("latest", "2022-04-25", "2022-04-25.r1"):
        assert client.get(f"/v1/embeddings/author/versions/{reference}").json() == version
    assert version["lineage"] == {"commit": "abc"}


def test_vectors_are_returned_with_counts_and_origin(client):
    consumer = parts()[0]["consumer"]
    params = {"id": ["consumer:c2", "producer:p0"]}
    response = client.get("/v1/embeddings/author/vectors", params=params).json()
    assert (response["version"], response["space"]) == ("author/2022-04-25.r1", SPACE)
    assert [record["id"] for record in response["vectors"]] == ["c2", "p0"]
    assert response["vectors"][0] == {
        "entity": "consumer",
        "id": "c2",
        "count": int(consumer.counts[2]),
        "folded": True,
        "vector": consumer.vectors[2].tolist(),
    }


def test_vectors_for_another_space_are_rejected(client):
    params = {"id": "consumer:c2", "space": "author/other"}
    refused = client.get("/v1/embeddings/author/vectors", params=params)
    assert (refused.status_code, refused.json()["error"]) == (409, "SpaceMismatch")


@pytest.mark.parametrize("ids", [["consumer:c2"], ["consumer:c2", "producer:p0"]])
def test_shorter_vectors_are_as_long_as_requested(client, ids):
    path = "/v1/embeddings/author/vectors"
    full = client.get(path, params={"id": ids}).json()["vectors"]
    shorter = client.get(path, params={"id": ids, "dim": 2}).json()["vectors"]
    assert [record["vector"] for record in shorter] == [record["vector"][:2] for record in full]
    for dim in (4, 2**32, 10**30):
        refused = client.get(path, params={"id": ids, "dim": dim})
        assert refused.status_code == 422
        assert "must be 1 to 3" in refused.json()["detail"]


def test_features_of_many_ids_are_answered_in_blocks_as_in_arrow(client, plain):
    publish_profile(plain)
    ids = [f"c{n % 12}" for n in range(2500)]
    names = ["profile.degree", "profile.share", "author"]
    body = {"entity": "consumer", "ids": ids, "names": names}
    rows = client.post("/v1/features", json=body).json()["rows"]
    assert [row["id"] for row in rows] == ids
    stream = client.post("/v1/features", json=body, headers={"Accept": ARROW}).content
    table = pa.ipc.open_stream(stream).read_all()
    for name in names:
        assert table[name].to_pylist() == [row["features"][name] for row in rows]
    assert table.field("author").metadata[b"space"].decode() == SPACE


def test_too_many_features_are_refused_by_number(client):
    body = {"entity": "consumer", "ids": ["c"] * 10_000, "names": [f"a.{n}" for n in range(51)]}
    refused = client.post("/v1/features", json=body)
    assert refused.status_code == 422
    assert "51 features of 10,000 ids are too many" in refused.json()["detail"]


def test_a_table_whose_files_are_damaged_is_still_listed(client, plain):
    publish_profile(plain, name="intact")
    (publish_profile(plain, name="damaged").path / "ids.npy").write_bytes(b"")
    columns = {one["name"]: one["columns"] for one in client.get("/v1/features").json()}
    assert columns == {"intact": ["days", "share", "active", "degree"], "damaged": None}


def test_neighbours_are_those_of_the_client(client, plain):
    params = {"id": "producer:p1", "k": 3, "among": "consumer"}
    response = client.get("/v1/embeddings/author/neighbours", params=params).json()
    found = plain.neighbours("author", "producer:p1", 3, among="consumer")
    assert response["neighbours"] == [vars(neighbour) for neighbour in found]


def test_fold_in_is_that_of_the_client(client, plain):
    history = {"strengths": {"p1": 2, "x": 1}}
    response = client.post("/v1/embeddings/author/fold-in", json=history).json()
    assert response["vector"] == plain.fold_in("author", {"p1": 2}).vector.tolist()
    assert response["unknown"] == ["x"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v1/embeddings/autor/versions", ["author"]),
        ("/v1/embeddings/author/versions/2022-04-26", ["2022-04-25"]),
        ("/v1/embeddings/author/vectors?id=producer:p11", ["producer:p1"]),
        ("/v1/embeddings/author/neighbours?id=producers:p1", ["producer"]),
    ],
)
def test_an_unknown_name_or_id_is_404_with_near_misses(client, path, near):
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["near"][: len(near)] == near


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/embeddings/author/neighbours?id=p1", "as in producer:1196"),
        (
            "/v1/embeddings/author/neighbours?id=producer:p1&k=0",
            "query.k: Input should be greater",
        ),
        ("/v1/embeddings/author/neighbours?id=producer:p1&k=many", "given: 'many'"),
        ("/v1/embeddings/author/vectors", "query.id: Field required"),
        ("/v1/embeddings/author/versions/2022-02-30", "not a calendar day"),
    ],
)
def test_an_invalid_request_is_422_with_the_reason(client, path, detail):
    response = client.get(path)
    assert response.status_code == 422
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "body: Field required"),
        (b"{", "JSON decode error"),
        (b"[]", "body: "),
        (b'{"strengths": {}}', "at least one producer"),
        (b'{"strengths": {}, "features": {"age": [3]}}', "body.features.age"),
        (b'{"strengths": {"p1": -1}}', "must be finite and above 0; given: {'p1': -1.0}"),
        # JSON can escape half a surrogate pair, but no response could repeat it.
        (b'{"strengths": {"\\ud800": 1, "p1": 1}}', "must not contain a lone surrogate"),
        (b'{"strengths": {"\\ud800": "x"}}', "must not contain a lone surrogate"),
    ],
)
def test_an_invalid_history_is_422_with_the_reason(client, body, detail):
    # Without the header the body is never parsed, and every one of these would be refused alike.
    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/embeddings/author/fold-in", content=body, headers=headers)
    assert response.status_code == 422
    assert detail in response.json()["detail"]


def test_only_the_token_moves_an_alias(client, plain):
    request = {
        "url": "/v1/embeddings/author/aliases",
        "json": {"alias": "serving", "version": "2022-04-25"},
    }
    assert client.post(**request).status_code == 401
    assert client.post(**request, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert list(plain.aliases("author")) == ["latest"]
    moved = client.post(**request, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (moved.status_code, moved.json()["aliases"]) == (200, ["latest", "serving"])
    assert client.get("/v1/embeddings/author/aliases").json()["serving"] == "author/2022-04-25.r1"


def test_latest_cannot_be_moved_over_http(client):
    request = {"alias": "latest", "version": "2022-04-25"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    refused = client.post("/v1/embeddings/author/aliases", json=request, headers=headers)
    assert refused.status_code == 422
    assert "only publishing moves" in refused.json()["detail"]


def test_an_answer_is_whole_while_an_alias_moves(service, plain):
    """The vectors of an answer are those of the version that it names, whatever moves meanwhile."""
    versions = [publish(plain, seed=seed) for seed in (0, 9)]
    expected = {}
    for version in versions:
        stored = plain.load(version).entities
        expected[version.id] = [
            stored[kind].vectors[1].tolist() for kind in ("consumer", "producer")
        ]
    plain.set_alias("author", "champion", versions[0])
    finished = threading.Event()
    params = {"id": ["consumer:c1", "producer:p1"], "version": "champion"}
    seen: list[set[str]] = []

    def read() -> None:
        ids = set()
        with httpx.Client(base_url=service) as reader:
            while not finished.is_set():
                answer = reader.get("/v1/embeddings/author/vectors", params=params).json()
                vectors = [record["vector"] for record in answer["vectors"]]
                assert vectors == expected[answer["version"]]
                ids.add(answer["version"])
        seen.append(ids)

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for turn in range(60):
            plain.set_alias("author", "champion", versions[turn % 2])
        finished.set()
        for reader in readers:
            reader.result()
    assert set.union(*seen) == set(expected)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30), k=st.text(max_size=5))
def test_no_text_causes_a_server_error(client, text, k):
    """Any text is found, unknown or rejected."""
    text = text.encode("utf-8", "replace").decode()
    quoted = quote(text, safe="")
    api = "/v1/embeddings/author"
    received = [
        client.get(f"/v1/embeddings/{quoted}/versions"),
        client.get(f"{api}/versions/{quoted}"),
        client.get(f"{api}/vectors", params={"id": f"producer:{text}", "version": "latest"}),
        client.get(f"{api}/neighbours", params={"id": text, "k": k, "among": text}),
        client.get("/embeddings/author/latest", params={"entity": text, "id": text, "among": text}),
        client.post(f"{api}/fold-in", json={"strengths": {text: 1.0, "p1": 1.0}}),
    ]
    assert {response.status_code for response in received} <= {200, 307, 404, 422}


def test_a_name_never_becomes_a_path(client):
    for name in ("..%2F..%2Fetc%2Fpasswd", "%2E%2E", "catalog.db", "_staging"):
        assert client.get(f"/v1/embeddings/{name}/versions").status_code == 404
        assert client.get(f"/embeddings/{name}").status_code == 404


def test_a_page_escapes_markup(client):
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
    for path in ("/v1/embeddings", "/"):
        failed = client.get(path)
        assert failed.status_code == 503
        assert "catalog does not respond" in failed.text


def test_a_damaged_version_is_500(client, plain):
    (plain.version("author").path / "producer/shard-00000/ids.npy").unlink()
    failed = client.get("/v1/embeddings/author/vectors?id=producer:p1")
    assert (failed.status_code, failed.json()["error"]) == (500, "DamagedVersion")


def test_without_a_root_the_service_names_the_missing_variable(monkeypatch):
    monkeypatch.delenv("EVERGREEN_REGISTRY_ROOT", raising=False)
    with pytest.raises(RegistryError, match="EVERGREEN_REGISTRY_ROOT is not set"):
        app_from_environment()


def test_started_as_the_process_file_starts_it(plain, root):
    """Configured by environment variables; without a token it refuses writes."""
    publish(plain)
    environment = {
        **os.environ,
        "EVERGREEN_REGISTRY_ROOT": str(root),
        "EVERGREEN_REGISTRY_TOKEN": "",
    }
    started = process_file_command("registry", SERVICES_HOST="127.0.0.1", REGISTRY_PORT=0)
    command = [sys.executable, "-m", *started]
    pipes = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            with httpx.Client(base_url=announced_address(process)) as client:
                assert client.get("/healthz").json() == {"status": "ok", "embeddings": 1}
                refused = client.post(
                    "/v1/embeddings/author/aliases",
                    json={"alias": "serving", "version": "latest"},
                    headers={"Authorization": "Bearer x"},
                )
                assert refused.status_code == 403
                assert "without a token" in refused.json()["detail"]
        finally:
            process.terminate()
            process.wait(30)


def test_a_service_of_its_own_reads_a_bucket(tmp_path, store_servers, monkeypatch):
    """With a folder of its own, and the catalog of the home that has published."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "tests")
    server = store_servers("seaweedfs")
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    with Registry(tmp_path, url, place_of(server, tmp_path / "home", "registry")) as registry:
        vectors = publish(registry) and registry.get("author", "producer", ["p1"]).vectors
    monkeypatch.setenv("EVERGREEN_REGISTRY_ROOT", str(tmp_path / "service"))
    monkeypatch.setenv("EVERGREEN_REGISTRY_CATALOG_URL", url)
    monkeypatch.setenv("EVERGREEN_REGISTRY_BUCKET", server.objects(tmp_path.name).url)
    monkeypatch.setenv("EVERGREEN_REGISTRY_ENDPOINT", server.endpoint)
    with serving(app_from_environment()) as address:
        found = httpx.get(f"{address}/v1/embeddings/author/vectors?id=producer:p1").json()
    np.testing.assert_allclose([found["vectors"][0]["vector"]], vectors, rtol=1e-6)


def process_file_command(name: str, **variables: str | int) -> list[str]:
    """The command of a process in the process file, with its variables substituted."""
    for line in PROCESS_FILE.read_text().splitlines():
        process, _, command = line.partition(":")
        if process == name:
            return shlex.split(Template(command).substitute(variables))
    raise AssertionError(f"{PROCESS_FILE} has no process {name!r}")


def announced_address(process: subprocess.Popen) -> str:
    """The address that uvicorn logs once it listens: on port 0 the system chooses the port."""
    for line in process.stderr:
        address = re.search(r"running on (http://\S+)", line)
        if address:
            return address[1]
    raise AssertionError("uvicorn ended before it listened")
