"""Looking up vectors, neighbours and fold-ins, checked by hand and by slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from registry_parts import DAY, SPACE, parts, publish, vectors

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.errors import BadRequest, SpaceMismatch, UnknownEntity, UnknownId
from embeddings.registry.search import cosine_top_k


def test_get_returns_vectors_in_the_requested_order(registry):
    version = publish(registry)
    consumer = parts()[0]["consumer"]
    found = registry.get("author", "consumer", ["c5", "c0", "c5"])
    np.testing.assert_array_equal(found.vectors, consumer.vectors[[5, 0, 5]])
    assert found.counts.tolist() == consumer.counts[[5, 0, 5]].tolist()
    assert found.folded.tolist() == [True, False, True]
    assert (found.version, found.version.space) == (version, SPACE)


def test_get_reads_the_requested_version(registry):
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
    query = entities["producer"].vectors[2].tolist()
    searched = entities[among or "producer"]
    cosines = {}
    counts = {}
    columns = zip(
        searched.ids.tolist(), searched.vectors.tolist(), searched.counts.tolist(), strict=True
    )
    for encoded, vector, count in columns:
        id_ = encoded.decode()
        dot = sum(a * b for a, b in zip(query, vector, strict=True))
        cosines[id_] = dot / math.hypot(*query) / math.hypot(*vector)
        counts[id_] = count
    cosines.pop("p2", None)  # never its own neighbour
    best = sorted(cosines, key=cosines.get, reverse=True)[:4]
    found = registry.neighbours("author", "producer:p2", 4, among=among)
    assert [neighbour.id for neighbour in found] == best
    scores = [neighbour.score for neighbour in found]
    np.testing.assert_allclose(scores, [cosines[id_] for id_ in best], atol=1e-6)
    assert [neighbour.count for neighbour in found] == [counts[id_] for id_ in best]


SMALL = arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=st.sampled_from([-1, 0, 1, 2])
)


@given(SMALL, st.integers(1, 35), st.integers(1, 9), st.data())
def test_blocks_and_ties_do_not_change_the_result(table, k, block, data):
    """The result is that of sorting all rows by (cosine, row), however many are equal."""
    leave_out = data.draw(st.integers(-1, len(table) - 1))
    norms = np.linalg.norm(table, axis=1)
    # With this query a cosine is a single division, which rounds the same in every block.
    query = np.array([1, 0], np.float32)
    cosine = np.divide(table[:, 0], norms, out=np.zeros_like(norms), where=norms > 0)
    by_cosine_and_row = np.lexsort((np.arange(len(cosine)), -cosine))
    expected = by_cosine_and_row[by_cosine_and_row != leave_out][:k]
    rows, scores = cosine_top_k(table, norms, query, k, leave_out, block)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_array_equal(scores, cosine[rows])


def test_a_zero_vector_has_no_neighbours_and_cosine_zero(plain):
    entities, fold_in = parts()
    entities["producer"].vectors[1] = 0
    plain.publish("author", DAY, SPACE, entities, fold_in, {})
    with pytest.raises(BadRequest, match="'producer:p1' has a zero vector"):
        plain.neighbours("author", "producer:p1")
    scores = {found.id: found.score for found in plain.neighbours("author", "producer:p0")}
    assert scores["p1"] == 0


def test_fold_in_by_hand(registry):
    """Two known producers: u = Σ_j strength_j / (√row sum √column sum_j) F_j, written out."""
    publish(registry)
    _, model = parts()
    p1_weight = 0.5 / math.sqrt(2.5) / math.sqrt(model.column_sums[1])
    p3_weight = 2.0 / math.sqrt(2.5) / math.sqrt(model.column_sums[3])
    matrix = model.matrix.astype(float)
    by_hand = p1_weight * matrix[1] + p3_weight * matrix[3]
    folded = registry.fold_in("author", {"p3": 2.0, "p1": 0.5, "unknown": 9.0})
    np.testing.assert_allclose(folded.vector, by_hand, rtol=1e-6)
    assert (folded.known, folded.unknown) == (2, ["unknown"])


def test_a_history_of_unknown_producers_has_no_vector(registry):
    publish(registry)
    with pytest.raises(UnknownId, match=r"no producer 'p7' in author/2022-04-25\.r1, nor 1 more"):
        registry.fold_in("author", {"p7": 1, "p8": 1})


@pytest.mark.parametrize("strength", [0, -1, math.nan, math.inf])
def test_an_invalid_strength_is_rejected(plain, strength):
    publish(plain)
    with pytest.raises(BadRequest, match=r"finite and above 0; given: \{'p1'"):
        plain.fold_in("author", {"p0": 1, "p1": strength})


def test_an_empty_history_is_rejected(plain):
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


def test_an_unknown_id_names_near_misses_and_other_entities_that_have_it(plain):
    entities = {"consumer": vectors(["100"], dim=2), "producer": vectors(["1195", "1196"], dim=2)}
    fold_in = SVDFoldIn(np.ones((2, 2), np.float32), np.ones(2))
    plain.publish("author", DAY, SPACE, entities, fold_in, {})
    with pytest.raises(
        UnknownId, match=r"no producer '1197'.*'producer:119[56]' or 'producer:119[56]'\? It has 2"
    ):
        plain.neighbours("author", "producer:1197")
    with pytest.raises(UnknownId, match=r"no producer '100'.*'consumer:100'"):
        plain.get("author", "producer", ["100"])


def test_an_unknown_entity_names_the_real_ones(plain):
    publish(plain)
    with pytest.raises(
        UnknownEntity, match=r"no entity 'producers'.*'producer'\? Available: consumer, producer"
    ):
        plain.neighbours("author", "producers:p1")


@pytest.mark.parametrize("key", ["p1", "producer:", ":p1", ""])
def test_a_key_needs_entity_and_id(plain, key):
    publish(plain)
    with pytest.raises(BadRequest, match="is not of the form entity:id, as in producer:1196"):
        plain.neighbours("author", key)


@pytest.mark.parametrize("id_", ["p1\0", "p1\0\0", "\0", "\ud800", "p" * 1000, ""])
def test_an_id_that_cannot_exist_is_unknown(plain, id_):
    """NumPy pads ids with NUL, so to NumPy 'p1' and 'p1' + NUL are equal."""
    publish(plain)
    with pytest.raises(UnknownId):
        plain.get("author", "producer", [id_])


def test_a_lookup_without_ids_has_no_vectors(plain):
    publish(plain)
    assert plain.get("author", "producer", []).vectors.shape == (0, 3)
