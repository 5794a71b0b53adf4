"""Producers for a newcomer of whom only groups are known: the client, a shell and HTTP."""

from __future__ import annotations

import json
from statistics import fmean, median

import httpx
import numpy as np
import pytest
from registry_parts import parts, publish, publish_groups

from embeddings.registry.errors import BadRequest, UnknownEntity, UnknownId
from embeddings.registry.service import MAX_GROUPS, MAX_IDS

GROUPS = ["degree=full", "region=north"]
SUMMARIES = {"mean": fmean, "max": max, "median": median, "min": min}


def slow_features(version_groups, groups: list[str]) -> dict[str, dict[str, float]]:
    """Every producer's dot products with these groups, summed up in a loop."""
    producers = parts()[0]["producer"]
    found = {}
    for id_, vector in zip(producers.ids.tolist(), producers.vectors.tolist(), strict=True):
        rows = [
            version_groups.vectors[version_groups.ids.tolist().index(group.encode())].tolist()
            for group in groups
        ]
        dots = [sum(a * b for a, b in zip(vector, row, strict=True)) for row in rows]
        found[id_.decode()] = {name: summary(dots) for name, summary in SUMMARIES.items()}
    return found


def test_candidates_get_their_features_in_the_order_asked_for(registry):
    groups = registry.load(publish_groups(registry)).entities["group"]
    expected = slow_features(groups, GROUPS)
    found = registry.lookalike("author", GROUPS, ["p4", "p0"])
    assert [candidate.id for candidate in found] == ["p4", "p0"]
    for candidate in found:
        assert {name: getattr(candidate, name) for name in SUMMARIES} == pytest.approx(
            expected[candidate.id], abs=1e-6
        )


@pytest.mark.parametrize("by", SUMMARIES)
def test_without_candidates_the_best_producers_are_found(plain, by):
    groups = plain.load(publish_groups(plain)).entities["group"]
    expected = slow_features(groups, GROUPS)
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


def test_a_version_without_groups_says_what_it_has(plain):
    publish(plain)
    with pytest.raises(UnknownEntity, match=r"no entity 'group' in .*There is: consumer, producer"):
        plain.lookalike("author", GROUPS)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"groups": []}, "needs at least one group"),
        (
            {"groups": GROUPS, "by": "sum"},
            "cannot be ranked by 'sum'; take one of mean, max, median, min",
        ),
        ({"groups": GROUPS, "k": 0}, "ask for at least one"),
    ],
)
def test_what_cannot_be_meant_is_refused(plain, asked, message):
    publish_groups(plain)
    with pytest.raises(BadRequest, match=message):
        plain.lookalike("author", **asked)


def test_a_shell_prints_what_the_client_finds(run, plain):
    publish_groups(plain)
    options = [word for group in GROUPS for word in ("--group", group)]
    answer = json.loads(run("lookalike", "author", *options, "--candidate", "p3", "--json").stdout)
    assert answer["producers"] == [
        vars(candidate) for candidate in plain.lookalike("author", GROUPS, ["p3"])
    ]
    table = run("lookalike", "author", *options, "--k", "2", "--by", "max").stdout
    best = plain.lookalike("author", GROUPS, k=2, by="max")
    assert all(producer.id in table for producer in best)
    assert "consumers of degree=full" in table


def test_http_answers_what_the_client_finds(service, plain):
    version = publish_groups(plain)
    counts = plain.get("author", "group", GROUPS).counts.tolist()
    path = f"{service}/api/embeddings/author/lookalike"
    answer = httpx.get(path, params={"group": GROUPS, "candidate": ["p3", "p1"]}).json()
    assert answer["producers"] == [
        vars(candidate) for candidate in plain.lookalike("author", GROUPS, ["p3", "p1"])
    ]
    assert answer["groups"] == dict(zip(GROUPS, counts, strict=True))
    assert (answer["version"], answer["space"]) == (version.id, version.space)
    best = httpx.get(path, params={"group": GROUPS, "k": 2, "by": "min"}).json()["producers"]
    assert best == [vars(producer) for producer in plain.lookalike("author", GROUPS, k=2, by="min")]


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
def test_http_refuses_what_cannot_be_answered(service, plain, params, status):
    publish_groups(plain)
    refused = httpx.get(f"{service}/api/embeddings/author/lookalike", params=params)
    assert (refused.status_code, bool(refused.json()["detail"])) == (status, True)


def test_a_group_has_neighbours_among_producers(plain):
    """A group's mean is a vector like any other."""
    publish_groups(plain)
    assert np.isfinite(
        [n.score for n in plain.neighbours("author", "group:degree=low", 3, among="producer")]
    ).all()
