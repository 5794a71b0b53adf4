"""What the service counts for Prometheus."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from registry_parts import publish

from embeddings.registry import files
from embeddings.registry.service import create_app

VERSIONS = "/v1/embeddings/{name}/versions"


@pytest.fixture
def client(service, plain):
    publish(plain)
    with httpx.Client(base_url=service) as opened:
        yield opened


def samples(client: httpx.Client) -> dict[tuple, float]:
    """(name, labels in the order of their names) -> value."""
    response = client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = [value for _, value in sorted(sample.labels.items())]
            found[sample.name, tuple(labels)] = sample.value
    return found


def test_requests_are_counted_by_route_method_and_status(client):
    for name in ("author", "author", "autor"):
        client.get(f"/v1/embeddings/{name}/versions")
    found = samples(client)
    assert found["evergreen_registry_requests_total", ("GET", VERSIONS, "200")] == 2
    assert found["evergreen_registry_requests_total", ("GET", VERSIONS, "404")] == 1
    assert found["evergreen_registry_request_seconds_count", (VERSIONS,)] == 3
    assert 0 < found["evergreen_registry_request_seconds_sum", (VERSIONS,)] < 30


def test_no_visitor_can_invent_a_label(client):
    """Each label would live as long as the process: the paths and methods of a scanner fill it."""
    for n in range(5):
        client.get(f"/wp-login-{n}.php")
        client.request("PURGE", "/")  # uvicorn passes on some methods that HTTP does not define
        client.get(f"/v1/embeddings/author{n}/aliases")
    text = client.get("/metrics").text
    assert 'route="unmatched"' in text
    assert "wp-login" not in text
    assert "PURGE" not in text
    assert "author" not in text


def test_open_versions_are_counted(client):
    files._open_folder.cache_clear()  # other tests have opened versions in this process
    assert samples(client)["evergreen_registry_open_versions", ()] == 0
    client.get("/v1/embeddings/author/vectors?id=producer:p1")
    assert samples(client)["evergreen_registry_open_versions", ()] == 1


def test_two_services_in_one_process_count_for_themselves(client, plain, root):
    client.get("/v1/embeddings/author/versions")
    other = create_app(root, f"sqlite:///{root / 'catalog.db'}")
    (measured,) = [layer for layer in other.user_middleware if "metrics" in layer.kwargs]
    assert VERSIONS not in measured.kwargs["metrics"].text().decode()
