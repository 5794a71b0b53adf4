"""Many vectors in one request, as JSON or as an Arrow stream."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pyarrow as pa
import pytest
from registry_parts import DAY, SPACE, parts, publish

from embeddings.registry import formats, responses
from embeddings.registry.arrow import ARROW, MAX_BULK_IDS
from embeddings.registry.errors import NotAcceptable
from embeddings.registry.formats import JSON

VECTORS = "/v1/embeddings/author/vectors"


@pytest.fixture
def client(service, plain):
    publish(plain)
    with httpx.Client(base_url=service, timeout=60) as opened:
        yield opened


def table(response: httpx.Response) -> pa.Table:
    assert (response.status_code, response.headers["Content-Type"]) == (200, ARROW)
    assert response.headers["Vary"] == "Accept"
    return pa.ipc.open_stream(response.content).read_all()


def test_arrow_has_the_vectors_and_where_they_come_from(client, plain):
    ids = ["p3", "p0", "p3"]
    body = {"entity": "producer", "ids": ids}
    read = table(client.post(VECTORS, json=body, headers={"Accept": ARROW}))
    found = plain.get("author", "producer", ids)
    assert read.schema.field("vector").type == pa.list_(pa.float32(), 3)
    assert read.schema.metadata == {
        b"version": b"author/2022-04-25.r1",
        b"space": SPACE.encode(),
        b"dim": b"3",
        b"shortened_by": b"",
        b"description": json.dumps(responses.facts(found.version)).encode(),
    }
    assert read["entity"].to_pylist() == ["producer"] * 3
    assert read["id"].to_pylist() == ids
    np.testing.assert_array_equal(np.stack(read["vector"].to_numpy()), found.vectors)
    assert read["count"].to_pylist() == found.counts.tolist()
    assert read["folded"].to_pylist() == found.folded.tolist()


def test_json_and_arrow_and_both_methods_have_the_same_records(client):
    ids = ["c5", "c0", "c2"]
    body = {"entity": "consumer", "ids": ids}
    keys = {"id": [f"consumer:{id_}" for id_ in ids]}
    records = client.post(VECTORS, json=body).json()["vectors"]
    assert [record["id"] for record in records] == ids
    assert client.get(VECTORS, params=keys).json()["vectors"] == records
    arrow = {"Accept": ARROW}
    assert table(client.post(VECTORS, json=body, headers=arrow)).to_pylist() == records
    assert table(client.get(VECTORS, params=keys, headers=arrow)).to_pylist() == records


def test_ids_of_several_entities_keep_their_order(client, plain):
    """c2 and p1 alternate: each row has the vector of its own id."""
    keys = ["consumer:c2", "producer:p1", "consumer:c0", "producer:p1"]
    read = table(client.get(VECTORS, params={"id": keys}, headers={"Accept": ARROW}))
    for key, row in zip(keys, read.to_pylist(), strict=True):
        entity, id_ = key.split(":")
        assert (row["entity"], row["id"]) == (entity, id_)
        found = plain.get("author", entity, [id_])
        assert row["vector"] == found.vectors[0].tolist()
        assert row["count"] == found.counts[0]


def test_no_ids_are_answered_with_no_vectors(client):
    body = {"entity": "producer", "ids": []}
    assert client.post(VECTORS, json=body).json()["vectors"] == []
    assert len(table(client.post(VECTORS, json=body, headers={"Accept": ARROW}))) == 0


def test_json_of_several_blocks_is_one_document(client):
    ids = [f"p{n % 5}" for n in range(2 * formats.BLOCK + 1)]
    records = client.post(VECTORS, json={"entity": "producer", "ids": ids}).json()["vectors"]
    assert [record["id"] for record in records] == ids
    vectors = parts()[0]["producer"].vectors
    assert records[-1]["vector"] == vectors[2000 % 5].tolist()


def test_the_largest_request_is_answered_and_one_more_id_is_not(client):
    body = {"entity": "producer", "ids": ["p1"] * MAX_BULK_IDS}
    assert len(table(client.post(VECTORS, json=body, headers={"Accept": ARROW}))) == MAX_BULK_IDS
    body["ids"].append("p1")
    refused = client.post(VECTORS, json=body, headers={"Accept": ARROW})
    assert refused.status_code == 422
    assert "at most 100000 items" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"entity": "producer", "ids": ["p1", "p99"]}, 404, "UnknownId"),
        ({"entity": "producers", "ids": ["p1"]}, 404, "UnknownEntity"),
        ({"entity": "producer", "ids": [1]}, 422, "BadRequest"),
        ({"ids": ["p1"]}, 422, "BadRequest"),
    ],
)
def test_a_bad_body_is_refused_in_json_whatever_was_accepted(client, body, status, error):
    refused = client.post(VECTORS, json=body, headers={"Accept": ARROW})
    assert (refused.status_code, refused.json()["error"]) == (status, error)


def test_bulk_reads_guard_the_space_and_take_any_version(client, plain):
    publish(plain, seed=5)
    body = {"entity": "producer", "ids": ["p1"]}
    refused = client.post(VECTORS, params={"space": "other"}, json=body)
    assert (refused.status_code, refused.json()["error"]) == (409, "SpaceMismatch")
    first = client.post(VECTORS, params={"version": f"{DAY}.r1", "space": SPACE}, json=body).json()
    assert first["version"] == "author/2022-04-25.r1"
    assert first["vectors"][0]["vector"] == parts()[0]["producer"].vectors[1].tolist()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json; charset=utf-8", JSON),
        (ARROW, ARROW),
        (ARROW.upper(), ARROW),
        (f"{ARROW}, {JSON}", JSON),  # equal: the first that is offered
        (f"{ARROW};q=0.9, {JSON};q=0.8", ARROW),
        (f"{ARROW}; q=0.5, */*; q=0.4", ARROW),
        (f"{JSON};q=0, */*", ARROW),  # the more specific range counts
        ("text/html,application/xhtml+xml,*/*;q=0.8", JSON),  # a browser
        (f"{JSON};q=x, {ARROW};q=0.1", ARROW),
    ],
)
def test_the_preferred_media_type_is_chosen(accept, media_type):
    assert formats.chosen(accept) == media_type


@pytest.mark.parametrize("accept", ["text/csv", "text/*", f"{JSON};q=0", "*/*;q=0", "nonsense"])
def test_an_accept_that_cannot_be_served_names_what_there_is(accept):
    with pytest.raises(NotAcceptable, match=f"{JSON} or {ARROW}"):
        formats.chosen(accept)


def test_a_client_that_accepts_nothing_we_have_gets_406(client):
    refused = client.get(f"{VECTORS}?id=producer:p1", headers={"Accept": "text/csv"})
    assert (refused.status_code, refused.json()["error"]) == (406, "NotAcceptable")
