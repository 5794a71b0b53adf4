"""Requests drawn from the service's own description: no server error, every answer as described."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_parts import DAY, TOKEN, publish, publish_groups, publish_profile

from embeddings.benchmarks.results import Result

REQUESTS = 10_000
UVICORN_READS = 65_000  # of an address; it refuses a longer one before the service sees it
# Drawn texts hardly ever name what exists, so some of them are replaced by these.
EXISTING = {
    "name": ["author"],
    "version": ["latest", "champion", str(DAY), f"{DAY}.r1"],
    "id": ["producer:p1", "consumer:c2"],
    "among": ["producer", "consumer"],
    "group": ["degree=full"],
    "candidate": ["p0", "p1"],
    "space": ["author/2022-04-25"],
    "by": ["mean", "max"],
    "alias": ["latest", "champion"],
    "only": ["p0", "p1"],
    "of": ["author", f"author/{DAY}"],
    "a": [f"author/{DAY}.r1"],
    "b": ["author"],
}
BODIES = [
    {"entity": "producer", "ids": ["p1", "p0"]},
    {"strengths": {"p1": 2.0, "x": 1}},
    {"alias": "champion", "version": "latest"},
    {"only": ["p2", "p0"]},
    {"entity": "consumer", "ids": ["c1", "x"], "names": ["profile.degree", "author@champion"]},
]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture
def described(service, plain):
    """The service's description, as a source of requests to it."""
    # Imported here: it takes a second, and this test is not among the usual ones.
    schemathesis = pytest.importorskip("schemathesis", reason="run `make install`")
    for version in (publish(plain, seed=3), publish_groups(plain)):
        plain.add_results(version, [Result("task", "auc", DAY, 0.7, 0.6, 0.8, 9, {"random": 0.5})])
    publish_profile(plain)
    plain.set_alias("author", "champion", plain.version("author", DAY, 1))
    return schemathesis.openapi.from_url(f"{service}/openapi.json")


def realistic(draw: st.DataObject, case) -> None:
    """Replace some of what was drawn by what exists."""
    for parameters in (case.path_parameters, case.query):
        for name in parameters or {}:
            if name in EXISTING and draw.draw(st.booleans(), "existing"):
                parameters[name] = draw.draw(st.sampled_from(EXISTING[name]), name)
    if case.method == "POST" and draw.draw(st.integers(0, 3), "known body") == 0:
        case.body = draw.draw(st.sampled_from(BODIES), "body")
        case.media_type = "application/json"


def fuzz(described, requests: int) -> Counter:
    """Send that many requests, half of them valid; the number of answers by status.

    Raises what a check raises.
    """
    from schemathesis import GenerationMode

    statuses: Counter = Counter()
    drawn_from = []
    for operation in (result.ok() for result in described.get_all_operations()):
        if operation.path_parameters or operation.query or operation.body:
            drawn_from.append(operation)
        else:  # always the same request
            statuses += of_operation(operation, GenerationMode.POSITIVE, 1)
    each = -(-requests // (len(drawn_from) * len(GenerationMode)))
    for operation in drawn_from:
        for mode in GenerationMode:
            statuses += of_operation(operation, mode, each)
    return statuses


def of_operation(operation, mode, requests: int) -> Counter:
    """As `fuzz`, for one operation and valid or invalid requests."""
    from schemathesis.checks import CHECKS as known

    statuses: Counter = Counter()
    selected = [known.get_one(name) for name in CHECKS]

    @settings(max_examples=requests, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), draw=st.data())
    def send(case, draw) -> None:
        realistic(draw, case)
        response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        statuses[response.status_code] += 1
        if len(response.request.url) > UVICORN_READS:
            assert response.status_code == 400
            return
        case.validate_response(response, checks=selected)

    send()
    return statuses


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_requests_are_answered_as_described(described):
    statuses = fuzz(described, REQUESTS)
    assert statuses.total() >= REQUESTS
    # Not all of them fail at the first check.
    assert min(statuses[200], statuses[404], statuses[422]) > REQUESTS / 100
