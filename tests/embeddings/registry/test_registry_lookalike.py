"""Producers for a consumer of whom only groups are known, from Python, a shell and over HTTP."""

from __future__ import annotations

import json
from statistics import fmean, median

import httpx
import numpy as np
import pytest
from registry_parts import parts, publish, publish_groups

from embeddings.registry.client import Lookalike
from embeddings.registry.errors import BadRequest, UnknownEntity, UnknownId
from embeddings.registry.parameters import MAX_GROUPS, MAX_IDS

GROUPS = ["degree=full", "region=north"]
SUMMARIES = {"mean": fmean, "max": max, "median": median, "min": min}


def slow_features(group_vectors: list[list[float]]) -> dict[str, dict[str, float]]:
    """Every producer's dot products with these groups, summarised in a loop."""
    producers = parts()[0]["producer"]
    features = {}
    for id_, vector in zip(producers.ids.tolist(), producers.vectors.tolist(), strict=True):
        dots = []
        for group_vector in group_vectors:
            dots.append(sum(a * b for a, b in zip(vector, group_vector, strict=True)))
        features[id_.decode()] = {name: summary(dots) for name, summary in SUMMARIES.items()}
    return features


@pytest.fixture
def expected(plain) -> dict[str, dict[str, float]]:
    """The features of every producer for GROUPS, on a published version."""
    publish_groups(plain)
    return slow_features(plain.get("author", "group", GROUPS).vectors.tolist())


def test_candidates_get_their_features_in_the_requested_order(plain, expected):
    scored = plain.lookalike("author", GROUPS, ["p4", "p0"])
    assert [candidate.id for candidate in scored] == ["p4", "p0"]
    for candidate in scored:
        features = {summary: getattr(candidate, summary) for summary in SUMMARIES}
        assert features == pytest.approx(expected[candidate.id], abs=1e-6)


@pytest.mark.parametrize("by", SUMMARIES)
def test_without_candidates_the_best_producers_are_returned(plain, expected, by):
    best = sorted(expected, key=lambda id_: -expected[id_][by])[:3]
    assert [producer.id for producer in plain.lookalike("author", GROUPS, k=3, by=by)] == best


def test_a_group_named_twice_counts_once(plain):
    publish_groups(plain)
    assert plain.lookalike("author", [*GROUPS, GROUPS[0]]) == plain.lookalike("author", GROUPS)


def test_an_unknown_group_names_near_misses(plain):
    publish_groups(plain)
    with pytest.raises(
        UnknownId, match=r"no group 'degree=ful' in .*Did you mean 'group:degree=full'"
    ):
        plain.lookalike("author", ["degree=ful"])


def test_an_unknown_candidate_names_near_misses(plain):
    publish_groups(plain)
    with pytest.raises(UnknownId, match=r"no producer 'p11' in .*'producer:p1'"):
        plain.lookalike("author", GROUPS, ["p1", "p11"])


def test_a_version_without_groups_names_its_entities(plain):
    publish(plain)
    with pytest.raises(
        UnknownEntity, match=r"no entity 'group' in .*Available: consumer, producer"
    ):
        plain.lookalike("author", GROUPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": []}, "At least one group is required"),
        (
            {"groups": GROUPS, "by": "sum"},
            "cannot be ranked by 'sum'; use one of mean, max, median, min",
        ),
        ({"groups": GROUPS, "k": 0}, "must be at least one"),
    ],
)
def test_an_invalid_request_is_rejected(plain, arguments, message):
    publish_groups(plain)
    with pytest.raises(BadRequest, match=message):
        plain.lookalike("author", **arguments)


def as_json(producers: list[Lookalike]) -> list[dict]:
    return [vars(producer) for producer in producers]


def test_a_shell_prints_the_clients_result(run, plain):
    publish_groups(plain)
    command = ["lookalike", "author", "--group", GROUPS[0], "--group", GROUPS[1]]
    printed = json.loads(run(*command, "--candidate", "p3", "--json").stdout)
    assert printed["producers"] == as_json(plain.lookalike("author", GROUPS, ["p3"]))
    table = run(*command, "--k", "2", "--by", "max").stdout
    for producer in plain.lookalike("author", GROUPS, k=2, by="max"):
        assert producer.id in table
    assert "consumers of degree=full" in table


def test_http_returns_the_clients_result(service, plain):
    version = publish_groups(plain)
    counts = plain.get("author", "group", GROUPS).counts.tolist()
    path = f"{service}/v1/embeddings/author/lookalike"
    response = httpx.get(path, params={"group": GROUPS, "candidate": ["p3", "p1"]}).json()
    assert response["producers"] == as_json(plain.lookalike("author", GROUPS, ["p3", "p1"]))
    assert response["groups"] == dict(zip(GROUPS, counts, strict=True))
    assert (response["version"], response["space"]) == (version.id, version.space)
    best = httpx.get(path, params={"group": GROUPS, "k": 2, "by": "min"}).json()["producers"]
    assert best == as_json(plain.lookalike("author", GROUPS, k=2, by="min"))


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 422),
        ({"group": ["degree=ful"]}, 404),
        ({"group": GROUPS, "by": "sum"}, 422),
        ({"group": GROUPS, "k": 0}, 422),
        ({"group": ["g"] * (MAX_GROUPS + 1)}, 422),
        ({"group": GROUPS, "candidate": ["p"] * (MAX_IDS + 1)}, 422),
        ({"group": GROUPS, "version": "2022-04-26"}, 404),
    ],
)
def test_http_rejects_an_invalid_request(service, plain, params, status):
    publish_groups(plain)
    refused = httpx.get(f"{service}/v1/embeddings/author/lookalike", params=params)
    assert (refused.status_code, bool(refused.json()["detail"])) == (status, True)


def test_a_group_has_neighbours_among_producers(plain):
    """Groups are vectors of the same space as all others."""
    entities = plain.load(publish_groups(plain)).entities
    query = plain.get("author", "group", ["degree=low"]).vectors[0]
    cosines = entities["producer"].vectors @ query
    cosines /= np.linalg.norm(query) * np.linalg.norm(entities["producer"].vectors, axis=1)
    found = plain.neighbours("author", "group:degree=low", 3, among="producer")
    expected = np.sort(cosines)[::-1][:3]
    np.testing.assert_allclose([neighbour.score for neighbour in found], expected, atol=1e-6)
