"""Asking the registry for vectors, neighbours and fold-ins, checked by slow loops."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from registry_parts import DAY, SPACE, parts, publish

from embeddings.fold_in import SVDFoldIn
from embeddings.registry.client import Vectors
from embeddings.registry.errors import BadRequest, SpaceMismatch, UnknownEntity, UnknownId
from embeddings.registry.search import cosine_top_k


def test_get_returns_rows_in_the_order_asked_for(registry):
    version = publish(registry)
    consumer = parts()[0]["consumer"]
    found = registry.get("author", "consumer", ["c5", "c0", "c5"])
    np.testing.assert_array_equal(found.vectors, consumer.vectors[[5, 0, 5]])
    assert found.counts.tolist() == consumer.counts[[5, 0, 5]].tolist()
    assert found.folded.tolist() == [True, False, True]
    assert (found.version, found.version.space) == (version, SPACE)


def test_get_answers_from_the_version_asked_for(registry):
    publish(registry, seed=1)
    publish(registry, seed=2)
    for revision in (1, 2):
        expected = parts(seed=revision)[0]["consumer"].vectors[3]
        found = registry.get("author", "consumer", ["c3"], day=DAY, revision=revision)
        np.testing.assert_array_equal(found.vectors[0], expected)


@pytest.mark.parametrize("among", [None, "consumer", "producer"])
def test_neighbours_agree_with_a_slow_loop(registry, among):
    publish(registry)
    entities, _ = parts()
    asked = entities["producer"].vectors[2].astype(float)
    searched = entities[among or "producer"]
    slow = {}
    for id_, vector in zip(
        searched.ids.tolist(), searched.vectors.astype(float).tolist(), strict=True
    ):
        dot = sum(a * b for a, b in zip(asked, vector, strict=True))
        slow[id_.decode()] = dot / math.hypot(*asked) / math.hypot(*vector)
    if among != "consumer":
        del slow["p2"]
    best = sorted(slow, key=slow.get, reverse=True)[:4]
    found = registry.neighbours("author", "producer:p2", 4, among=among)
    assert [neighbour.id for neighbour in found] == best
    np.testing.assert_allclose(
        [neighbour.score for neighbour in found], [slow[id_] for id_ in best], atol=1e-6
    )
    assert [n.count for n in found] == [
        int(searched.counts[searched.ids == n.id.encode()][0]) for n in found
    ]


SMALL = arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=st.sampled_from([-1, 0, 1, 2])
)


@given(SMALL, st.integers(1, 35), st.integers(1, 9), st.data())
def test_blocks_and_ties_do_not_change_the_answer(vectors, k, block, data):
    """Sorting all rows by (cosine, row) is the same, however many rows are equal."""
    leave_out = data.draw(st.integers(-1, len(vectors) - 1))
    norms = np.linalg.norm(vectors, axis=1)
    query = np.array(
        [1, 0], dtype=np.float32
    )  # so that a cosine is one division, the same in every block
    cosine = np.divide(vectors[:, 0], norms, out=np.zeros_like(norms), where=norms > 0)
    expected = [row for row in np.lexsort((np.arange(len(cosine)), -cosine)) if row != leave_out][
        :k
    ]
    rows, scores = cosine_top_k(vectors, norms, query, k, leave_out, block)
    assert rows.tolist() == expected[: len(rows)]
    assert len(rows) == min(k, len(vectors) - (leave_out >= 0))
    np.testing.assert_array_equal(scores, cosine[rows])


def test_a_vector_of_zeros_is_nobodys_neighbour_by_direction(plain):
    entities, fold_in = parts()
    entities["producer"].vectors[1] = 0
    plain.publish("author", DAY, SPACE, entities, fold_in, {})
    with pytest.raises(BadRequest, match="'producer:p1' has a vector of zeros"):
        plain.neighbours("author", "producer:p1")
    assert {n.id: n.score for n in plain.neighbours("author", "producer:p0")}["p1"] == 0


def test_fold_in_by_hand(registry):
    """Two known producers: u = Σ_j strength_j / (√row sum √column sum_j) F_j, written out."""
    publish(registry)
    _, its = parts()
    strengths = {"p3": 2.0, "p1": 0.5}
    by_hand = sum(
        strength
        / math.sqrt(2.5)
        / math.sqrt(its.column_sums[int(p[1])])
        * its.matrix[int(p[1])].astype(float)
        for p, strength in strengths.items()
    )
    found = registry.fold_in("author", {**strengths, "nobody": 9.0})
    np.testing.assert_allclose(found.vector, by_hand, rtol=1e-6)
    assert (found.known, found.unknown) == (2, ["nobody"])


def test_a_history_of_strangers_has_no_vector(registry):
    publish(registry)
    with pytest.raises(UnknownId, match=r"no producer 'p7' in author/2022-04-25\.r1, nor 1 more"):
        registry.fold_in("author", {"p7": 1, "p8": 1})


@pytest.mark.parametrize("strength", [0, -1, math.nan, math.inf])
def test_a_strength_that_is_none_is_refused(plain, strength):
    publish(plain)
    with pytest.raises(BadRequest, match=r"finite and above 0; given: \{'p1'"):
        plain.fold_in("author", {"p0": 1, "p1": strength})


def test_an_empty_history_is_refused(plain):
    publish(plain)
    with pytest.raises(BadRequest, match="at least one producer"):
        plain.fold_in("author", {})


def test_another_space_is_an_error_that_names_both(registry):
    version = publish(registry)
    assert registry.load(version, space=SPACE).version == version
    with pytest.raises(
        SpaceMismatch, match=r"space 'author/2022-04-25'.*against space 'author/2022-04-26'"
    ):
        registry.load(version, space="author/2022-04-26")


def test_an_unknown_id_names_near_misses_and_where_else_it_is(plain):
    ids = np.array([b"100", b"1195", b"1196"])
    consumer = Vectors(
        ids[:1], np.ones((1, 2), np.float32), np.ones(1, np.int32), np.zeros(1, bool)
    )
    producer = Vectors(
        ids[1:], np.ones((2, 2), np.float32), np.ones(2, np.int32), np.zeros(2, bool)
    )
    fold_in = SVDFoldIn(np.ones((2, 2), np.float32), np.ones(2))
    plain.publish("author", DAY, SPACE, {"consumer": consumer, "producer": producer}, fold_in, {})
    with pytest.raises(
        UnknownId, match=r"no producer '1197'.*'producer:119[56]' or 'producer:119[56]'\? It has 2"
    ):
        plain.neighbours("author", "producer:1197")
    with pytest.raises(UnknownId, match=r"no producer '100'.*'consumer:100'"):
        plain.get("author", "producer", ["100"])


def test_an_unknown_entity_names_the_real_ones(plain):
    publish(plain)
    with pytest.raises(
        UnknownEntity, match=r"no entity 'producers'.*'producer'\? There is: consumer, producer"
    ):
        plain.neighbours("author", "producers:p1")


@pytest.mark.parametrize("who", ["p1", "producer:", ":p1", ""])
def test_who_needs_entity_and_id(plain, who):
    publish(plain)
    with pytest.raises(BadRequest, match="is no entity:id|does not say who"):
        plain.neighbours("author", who)


@pytest.mark.parametrize("id_", ["p1\0", "p1\0\0", "\0", "\ud800", "p" * 1000, ""])
def test_an_id_that_cannot_be_is_unknown_not_a_crash(plain, id_):
    """NumPy pads ids with NUL, so that 'p1' and 'p1' + NUL look alike to it."""
    publish(plain)
    with pytest.raises(UnknownId):
        plain.get("author", "producer", [id_])


def test_no_ids_are_no_vectors(plain):
    publish(plain)
    assert plain.get("author", "producer", []).vectors.shape == (0, 3)


@pytest.mark.parametrize("module", ["client", "service", "commands"])
def test_importing_the_registry_imports_no_engine(module):
    """Any service can use it: no Spark, torch, Airflow, and nothing of ours above it."""
    forbidden = ["pyspark", "torch", "airflow", "mlflow", "jobs", "models"]
    code = f"import sys, embeddings.registry.{module}; print([m for m in {forbidden} if m in sys.modules])"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"
