"""The service's description of itself is complete, and its answers are what it describes."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from registry_parts import DAY, TOKEN, publish, publish_groups, publish_profile

from embeddings.benchmarks.results import Result

AUTHOR = "/v1/embeddings/author"
NAMES = ["profile.days", "profile.degree", "author"]
# Requests that are answered: at least one for every route.
ANSWERED: list[dict[str, Any]] = [
    {"url": "/healthz"},
    {"url": "/metrics"},
    {"url": "/v1/embeddings"},
    {"url": f"{AUTHOR}/versions"},
    {"url": f"{AUTHOR}/versions/latest"},
    {"url": f"{AUTHOR}/aliases"},
    {"url": f"{AUTHOR}/history"},
    {"url": f"{AUTHOR}/vectors?id=consumer:c2&id=producer:p0"},
    {"url": f"{AUTHOR}/vectors", "json": {"entity": "producer", "ids": ["p1", "p0"]}},
    {"url": f"{AUTHOR}/neighbours?id=producer:p1&among=consumer"},
    {"url": f"{AUTHOR}/fold-in", "json": {"strengths": {"p1": 2, "x": 1}}},
    {"url": f"{AUTHOR}/neighbours?id=producer:p1&k=2", "json": {"only": ["p2", "p0"]}},
    {"url": f"{AUTHOR}/fold-in?k=2&dim=2", "json": {"strengths": {"p1": 2}}},
    {"url": f"{AUTHOR}/lookalike?group=degree=full"},
    {"url": f"{AUTHOR}/benchmarks"},
    {"url": f"{AUTHOR}/versions/latest/benchmarks"},
    {"url": "/v1/benchmarks?of=author&of=author/latest"},
    {"url": f"/v1/diff?a=author/{DAY}.r1&b=author"},
    {"url": "/v1/features"},
    {"url": "/v1/features", "json": {"entity": "consumer", "ids": ["c1", "x"], "names": NAMES}},
    {"url": f"{AUTHOR}/aliases", "json": {"alias": "champion", "version": "latest"}},
    {"url": f"{AUTHOR}/aliases", "json": {"alias": "champion", "version": f"{DAY}.r1"}},
    {"url": f"{AUTHOR}/aliases/champion/rollback?reason=why&by=ann", "method": "POST"},
    {"url": f"{AUTHOR}/aliases/champion", "method": "DELETE"},
]
# Requests that are refused, with the status.
REFUSED: list[tuple[int, dict[str, Any]]] = [
    (401, {"url": f"{AUTHOR}/aliases/a", "method": "DELETE", "headers": {}}),
    (404, {"url": "/v1/diff?a=author&b=autor"}),
    (404, {"url": "/v1/benchmarks?of=autor"}),
    (404, {"url": "/v1/features", "json": {"entity": "consumer", "ids": [], "names": ["a.b"]}}),
    (422, {"url": "/v1/features", "json": {"entity": "consumer", "ids": [], "names": []}}),
    (409, {"url": f"{AUTHOR}/neighbours?id=producer:p1&space=other"}),
    (422, {"url": f"{AUTHOR}/aliases/latest/rollback", "method": "POST"}),
    (401, {"url": f"{AUTHOR}/aliases", "json": {"alias": "a", "version": "latest"}, "headers": {}}),
    (404, {"url": "/v1/embeddings/autor/versions"}),
    (406, {"url": f"{AUTHOR}/vectors?id=consumer:c2", "headers": {"Accept": "text/csv"}}),
    (409, {"url": f"{AUTHOR}/vectors?id=consumer:c2&space=other"}),
    (422, {"url": f"{AUTHOR}/neighbours?id=producer:p1&k=0"}),
]


@pytest.fixture
def client(service, plain):
    versions = [publish(plain, seed=3, commit="abc"), publish_groups(plain)]
    publish_profile(plain)
    for version in versions:
        plain.add_results(version, [Result("task", "auc", DAY, 0.7, 0.6, 0.8, 9, {"random": 0.5})])
    with httpx.Client(base_url=service) as opened:
        yield opened


def send(client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    """The answer to a request, a POST if it has a body; with the token unless it has headers."""
    usual = {
        "method": "POST" if "json" in request else "GET",
        "headers": {"Authorization": f"Bearer {TOKEN}"},
    }
    return client.request(**(usual | request))


def operation_of(schema: dict[str, Any], response: httpx.Response) -> tuple[str, dict[str, Any]]:
    """The path template that a request matches, and its description."""
    request = response.request
    for template, operations in schema["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), request.url.path):
            return template, operations[request.method.lower()]
    raise AssertionError(f"{request.url.path} is not described")


def check(schema: dict[str, Any], response: httpx.Response) -> None:
    """Raises ValidationError unless the answer is described for its status."""
    _, operation = operation_of(schema, response)
    described = operation["responses"][str(response.status_code)]["content"]
    kind = response.headers["Content-Type"].partition(";")[0]
    form = described[kind]["schema"]
    answer = response.json() if kind == "application/json" else response.text
    Draft202012Validator(form | {"components": schema["components"]}).validate(answer)


def test_every_answer_has_the_described_schema(client):
    schema = client.get("/openapi.json").json()
    seen = set()
    for request in ANSWERED:
        response = send(client, request)
        assert response.status_code == 200, response.text
        check(schema, response)
        seen.add((response.request.method.lower(), operation_of(schema, response)[0]))
    every = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    assert seen == every


@pytest.mark.parametrize(("status", "request_"), REFUSED)
def test_every_error_has_the_described_schema(client, status, request_):
    response = send(client, request_)
    assert response.status_code == status
    check(client.get("/openapi.json").json(), response)


def test_every_parameter_field_and_route_is_explained(client):
    """For people who read the description: a summary, a tag, and an example of what to send."""
    schema = client.get("/openapi.json").json()
    tags = {tag["name"] for tag in schema["tags"]}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            assert set(operation["tags"]) <= tags, path
            for parameter in operation.get("parameters", []):
                examples = parameter["schema"].get("examples") or parameter.get("examples")
                is_explained = examples or "default" in parameter["schema"]
                assert is_explained, (method, path, parameter["name"])
    assert schema["components"]["schemas"]["History"]["properties"]["strengths"]["examples"]


def test_only_writes_are_described_with_the_token(client):
    schema = client.get("/openapi.json").json()
    guarded = []
    for path, operations in schema["paths"].items():
        guarded += [(method, path) for method in operations if "security" in operations[method]]
    assert guarded == [
        ("post", "/v1/embeddings/{name}/aliases"),
        ("post", "/v1/embeddings/{name}/aliases/{alias}/rollback"),
        ("delete", "/v1/embeddings/{name}/aliases/{alias}"),
    ]
