"""Looking up vectors, neighbours and fold-ins, checked by hand and by slow loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from registry_parts import DAY, SPACE, parts, publish, publish_groups, vectors

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.errors import BadRequest, SpaceMismatch, UnknownEntity, UnknownId
from embeddings.registry.loaded import nearest
from embeddings.registry.search import cosine_top_k
from embeddings.registry.shards import write_shard
from embeddings.registry.vectors import FIELDS, Entity, Vectors


def test_get_returns_vectors_in_the_requested_order(registry):
    version = publish(registry)
    consumer = parts()[0]["consumer"]
    found = registry.get("author", "consumer", ["c5", "c0", "c5"])
    np.testing.assert_array_equal(found.vectors, consumer.vectors[[5, 0, 5]])
    assert found.counts.tolist() == consumer.counts[[5, 0, 5]].tolist()
    assert found.folded.tolist() == [True, False, True]
    assert (found.version, found.version.space) == (version, SPACE)


COLLECTIONS = [
    np.array(["p2", "p1"]),
    np.array([b"p2", b"p1"]),
    np.array(["p2", "p1"], dtype=object),
    pd.Series(["p2", "p1"], index=[7, 3]),
    ("p2", "p1"),
    dict.fromkeys(["p2", "p1"]),
]


@pytest.mark.parametrize("ids", COLLECTIONS, ids=lambda ids: type(ids).__name__)
def test_ids_come_in_any_collection(registry, ids):
    publish(registry)
    found = registry.get("author", "producer", ids)
    expected = registry.get("author", "producer", ["p2", "p1"])
    assert found.ids == expected.ids == ["p2", "p1"]
    np.testing.assert_array_equal(found.vectors, expected.vectors)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([1], "1 is no id, because all ids are texts: use '1'"),
        (np.array([1, 2]), "use '1'"),
        (["p1", None], "None is no id"),
        ("p1", r"'p1' is one id, .*use \['p1'\]"),
    ],
    ids=str,
)
def test_what_is_no_list_of_texts_is_refused_in_a_sentence(registry, ids, said):
    publish(registry)
    with pytest.raises(BadRequest, match=said):
        registry.get("author", "producer", ids)


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
    found = (by_cosine_and_row != leave_out) & (norms[by_cosine_and_row] > 0)
    expected = by_cosine_and_row[found][:k]
    rows, scores = cosine_top_k(table, norms, query, k, leave_out, block)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_array_equal(scores, cosine[rows])


def test_a_zero_vector_has_no_neighbours_and_is_none(plain):
    entities, fold_in = parts()
    entities["producer"].vectors[1] = 0
    plain.publish("author", DAY, SPACE, entities, fold_in, {})
    with pytest.raises(BadRequest, match="'producer:p1' has a zero vector"):
        plain.neighbours("author", "producer:p1")
    entities["producer"].vectors[2, :2] = 0  # zero in its first two dimensions
    plain.publish("author", DAY, SPACE, entities, fold_in, {})
    for dim, never in ((None, {"p1"}), (2, {"p1", "p2"})):
        found = plain.neighbours("author", "producer:p0", dim=dim)
        assert {one.id for one in found} == {"p1", "p2", "p3", "p4"} - never
        limited = plain.neighbours("author", "producer:p0", dim=dim, only=["p1", "p2"])
        assert {one.id for one in limited} == {"p1", "p2"} - never
    with pytest.raises(BadRequest, match="'producer:p2' has a zero vector in the first 2 dimen"):
        plain.neighbours("author", "producer:p2", dim=2)


@given(SMALL, st.integers(1, 35), st.data())
def test_a_limited_search_finds_what_the_whole_search_finds_among_the_given_ids(table, k, data):
    """For any list of ids, repeated ones too, and however many vectors are equal."""
    ids = [f"{row:02d}" for row in range(len(table))]
    stored = replace(vectors(ids, dim=2), vectors=table)
    only = data.draw(st.lists(st.sampled_from(ids)))
    rows = np.unique(np.array([int(id_) for id_ in only], np.int64))
    query = np.array([1, 0], np.float32)
    every = nearest(Entity([stored]), query, len(ids))
    expected = [found for found in every if found.id in only][:k]
    assert nearest(Entity([stored]), query, k, rows) == expected


def test_vectors_whose_squares_no_float32_holds_have_true_cosines():
    """Very long and very short ones are neither zero vectors nor infinite ones."""
    table = np.float32([[3e25, 4e25], [3e-25, 4e-25], [4e25, -3e25], [0, 0]])
    stored = replace(vectors(["a", "b", "c", "d"], dim=2), vectors=table)
    for query in table[:2]:
        found = nearest(Entity([stored]), query, 9)
        assert [one.id for one in found] == ["a", "b", "c"]
        np.testing.assert_allclose([one.score for one in found], [1, 1, 0], atol=1e-6)


def test_a_search_is_limited_to_known_ids(plain):
    publish(plain)
    whole = plain.neighbours("author", "producer:p2", 9, among="consumer")
    wanted = ["c7", "c1", "c7", "c4"]
    found = plain.neighbours("author", "producer:p2", 9, among="consumer", only=wanted)
    assert found == [one for one in whole if one.id in wanted]
    assert plain.neighbours("author", "producer:p2", only=["p2"]) == []  # never its own neighbour
    assert plain.neighbours("author", "producer:p2", only=[]) == []
    with pytest.raises(UnknownId, match="no consumer 'c99' in .*, nor 1 more"):
        plain.neighbours("author", "producer:p2", among="consumer", only=["c1", "c99", "p1"])


READS = {
    "get": lambda registry, **how: registry.get("author", "consumer", ["c1"], **how),
    "neighbours": lambda registry, **how: registry.neighbours("author", "consumer:c1", **how),
    "fold_in": lambda registry, **how: registry.fold_in("author", {"p1": 1.0}, **how),
    "lookalike": lambda registry, **how: registry.lookalike("author", ["degree=low"], **how),
}


@pytest.mark.parametrize("read", READS)
def test_every_read_checks_the_space_and_says_where_it_read(plain, read):
    version = publish_groups(plain)
    assert READS[read](plain, space=SPACE).version == version
    message = r"space 'author/2022-04-25'.*against space 'author/2022-04-26'"
    with pytest.raises(SpaceMismatch, match=message):
        READS[read](plain, space="author/2022-04-26")


@pytest.mark.parametrize("dim", [0, -1, 4])
@pytest.mark.parametrize("read", READS)
def test_a_length_that_a_version_does_not_have_is_refused(plain, read, dim):
    publish_groups(plain)
    message = rf"author/2022-04-25\.r1 has vectors of length 3, so dim = {dim} is invalid"
    with pytest.raises(BadRequest, match=message):
        READS[read](plain, dim=dim)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_shorter_length_is_what_a_version_of_the_first_columns_answers(plain, dim):
    """Published once whole and once cut: every read of both is the same."""
    entities, fold_in = parts()
    entities["group"] = vectors(["degree=low"], seed=7)
    cut = {}
    for entity, stored in entities.items():
        cut[entity] = replace(stored, vectors=stored.vectors[:, :dim])
    plain.publish("author", DAY, SPACE, entities, fold_in, {})
    plain.publish("cut", DAY, SPACE, cut, replace(fold_in, matrix=fold_in.matrix[:, :dim]), {})
    whole, short = plain.load(plain.version("author")), plain.load(plain.version("cut"))
    found = whole.get("consumer", ["c5", "c0"], dim=dim)
    np.testing.assert_array_equal(found.vectors, short.get("consumer", ["c5", "c0"]).vectors)
    key = "consumer:c1"
    found = whole.neighbours(key, among="producer", dim=dim)
    assert found == short.neighbours(key, among="producer")
    groups = ["degree=low"]
    assert whole.lookalike(groups, dim=dim) == short.lookalike(groups)
    folded, expected = whole.fold({"p1": 2.0}, k=3, dim=dim), short.fold({"p1": 2.0}, k=3)
    np.testing.assert_allclose(folded.vector, expected.vector, rtol=1e-6)
    assert [one.id for one in folded.neighbours] == [one.id for one in expected.neighbours]
    assert folded.residual == pytest.approx(expected.residual, rel=1e-5)


def test_a_shorter_length_is_read_across_shards(plain, tmp_path):
    entities, fold_in = parts()
    consumer = entities["consumer"]
    for number, rows in enumerate((slice(4), slice(4, 9))):
        shard = [getattr(consumer, field)[rows] for field in FIELDS]
        write_shard(tmp_path / "consumer", number, Vectors(*shard))
    plain.publish("whole", DAY, SPACE, entities, fold_in, {})
    sharded = {**entities, "consumer": tmp_path / "consumer"}
    plain.publish("sharded", DAY, SPACE, sharded, fold_in, {})
    for only in (None, ["c2", "c7", "c8"]):
        read = {"key": "producer:p1", "among": "consumer", "dim": 2, "only": only}
        assert plain.neighbours("sharded", **read) == plain.neighbours("whole", **read)


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
    assert (folded.known, folded.unknown, folded.whole) == (2, ["unknown"], False)
    assert registry.fold_in("author", {"p3": 2.0, "p1": 0.5}).whole


def test_a_history_of_unknown_producers_has_no_vector(registry):
    publish(registry)
    with pytest.raises(UnknownId, match=r"no producer 'p7' in author/2022-04-25\.r1, nor 1 more"):
        registry.fold_in("author", {"p7": 1, "p8": 1})


@pytest.mark.parametrize("strength", [0, -1, math.nan, math.inf, 1e39, 1e-50])
def test_an_invalid_strength_is_rejected(plain, strength):
    publish(plain)
    with pytest.raises(BadRequest, match=r"finite and above 0; given: \{'p1'"):
        plain.fold_in("author", {"p0": 1, "p1": strength})


def test_a_producer_that_is_not_valid_unicode_is_refused_by_name(plain):
    publish(plain)
    with pytest.raises(BadRequest, match=r"'\\ud800' cannot be an id: it has a lone surrogate"):
        plain.fold_in("author", {"p0": 1, "\ud800": 1})


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
