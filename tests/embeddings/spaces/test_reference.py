"""The reference of a space, against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import names, seeds

from embeddings.sampling import hashes
from embeddings.spaces import reference
from embeddings.spaces.reference import (
    FORGOTTEN,
    SIDES,
    Entities,
    continued,
    first_reference,
    folds,
    identity,
    pairs,
)


def entities(ids: list[bytes], vectors: list[list[float]], weights: list[float]) -> Entities:
    return Entities(
        np.array(ids, "S4"), np.array(vectors, np.float32), np.array(weights, np.float32)
    )


def both(side: Entities) -> dict[str, Entities]:
    return dict.fromkeys(SIDES, side)


def test_the_reference_is_the_mean_of_directions_by_decayed_weights():
    """By hand: γ = 1/2 per day, two days between."""
    old = both(entities([b"a", b"b"], [[1, 0], [0, 1]], [4, 8]))
    new = both(entities([b"b", b"c"], [[3, 0], [0, -2]], [2, 5]))
    after = continued(old, new, days=2, memory=0.5)["producer"]
    assert after.ids.tolist() == [b"a", b"b", b"c"]
    np.testing.assert_allclose(after.weights, [1, 4, 5])
    np.testing.assert_allclose(after.vectors, [[1, 0], [0.5, 0.5], [0, -1]])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), seeds)
def test_a_reference_is_a_sum_over_all_days(present, seed):
    """Whatever days an entity is there: against the sum of its directions, γ per day since each."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(present), 3)).astype(np.float32)
    day = both(entities([b"x"], [[1, 0, 0]], [1]))
    kept = first_reference(day)
    weight, total = 0.0, np.zeros(3)
    for vector, times in zip(vectors, present, strict=True):
        weight, total = 0.9 * weight, 0.9 * total
        ids = [b"e", b"x"] if times else [b"x"]
        shown = both(
            entities(ids, [vector.tolist(), [1, 0, 0]][-len(ids) :], [times, 1][-len(ids) :])
        )
        kept = continued(kept, shown, days=1, memory=0.9)
        if times:
            weight, total = weight + times, total + times * vector / np.linalg.norm(vector)
    side = kept["consumer"]
    if weight < FORGOTTEN * np.median(shown["consumer"].weights) and not present[-1]:
        assert b"e" not in side.ids
    else:
        row = side.ids.tolist().index(b"e")
        np.testing.assert_allclose(side.weights[row], weight, rtol=1e-5)
        np.testing.assert_allclose(side.vectors[row], total / weight, atol=1e-5)


def test_who_has_been_away_for_long_is_forgotten():
    """γ³⁰⁰ = 0.05, of a weight of 1, and the limit is a tenth of the day's median, also 1."""
    old = both(entities([b"a", b"b"], [[1, 0], [0, 1]], [1, 100]))
    new = both(entities([b"c"], [[0, 1]], [1]))
    after = continued(old, new, days=300)["consumer"]
    assert after.ids.tolist() == [b"b", b"c"]


def test_a_pair_has_the_weight_of_its_less_certain_vector():
    """w W / (w + W), by hand; only entities of the same side and id are paired."""
    day = {
        "consumer": entities([b"a", b"b"], [[2, 0], [0, 2]], [1, 4]),
        "producer": entities([b"c"], [[1, 1]], [1]),
    }
    kept = {
        "consumer": entities([b"b", b"c"], [[0, 0.5], [1, 0]], [12, 7]),
        "producer": entities([b"a"], [[1, 0]], [1]),
    }
    shared, *rest = [group for group in pairs(day, kept) if len(group)]
    assert not rest
    assert (len(shared), shared.fold) == (1, folds(np.array([b"b"]))[0])
    np.testing.assert_allclose(shared.weights, [3.0])
    np.testing.assert_allclose(shared.day, [[0, 1]])
    np.testing.assert_allclose(shared.reference, [[0, 0.5]])


def test_without_a_shared_entity_there_are_no_pairs():
    a = both(entities([b"a"], [[1, 0]], [1]))
    b = both(entities([b"b"], [[1, 0]], [1]))
    assert sum(map(len, pairs(a, b))) == 0


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_strengths_makes_no_difference(scale):
    """Who is remembered, and where, is the same in millionths as in millions."""
    rng = np.random.default_rng(0)
    days = []
    for n in (300, 200, 200):
        days.append((names(range(n)), rng.normal(size=(n, 3)), rng.integers(1, 50, n)))
    kept = []
    for factor in (1.0, scale):
        sides = [both(Entities.of_day(ids, v, factor * strengths)) for ids, v, strengths in days]
        left = first_reference(sides[0])
        for side in sides[1:]:
            left = continued(left, side, days=100)
        kept.append(left["consumer"])
    assert 200 < len(kept[0].ids) < 300
    np.testing.assert_array_equal(kept[1].ids, kept[0].ids)
    np.testing.assert_allclose(kept[1].vectors, kept[0].vectors, atol=1e-5)


@pytest.mark.parametrize("odd", [0.0, 1e-25, np.nan, np.inf])
def test_entities_without_vector_or_strength_are_left_out(odd):
    """Nor with one that is no number, or whose square is none."""
    vectors = np.array([[1.0, 0], [odd, 0], [1, 1]], np.float32)
    side = Entities.of_day(np.array([b"c", b"b", b"a"]), vectors, np.array([4.0, 1, 0]))
    assert side.ids.tolist() == [b"c"]
    np.testing.assert_allclose(side.weights, [2.0])


def test_of_too_many_the_same_ones_are_remembered_on_every_day(monkeypatch):
    """So consecutive days share them; and no more are kept than that."""
    monkeypatch.setattr(reference, "MOST", 50)
    rng = np.random.default_rng(0)
    chosen = []
    for start in (0, 20):
        ids = names(range(start, 400 + start))
        order = rng.permutation(400)
        side = Entities.of_day(ids[order], np.ones((400, 2)), np.ones(400))
        assert len(side.ids) == 50
        assert (np.sort(side.ids) == side.ids).all()
        chosen.append(set(side.ids.tolist()))
    assert len(chosen[0] & chosen[1]) > 40
    days = [both(Entities.of_day(names(range(n)), np.ones((n, 2)), np.ones(n))) for n in (90, 400)]
    assert len(continued(first_reference(days[0]), days[1], 1)["consumer"].ids) == 50


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda b: b[-1:] != b"\0"), min_size=1))
def test_the_hash_of_an_id_does_not_depend_on_the_others(ids):
    """Nor on the width of their array."""
    together = hashes(np.array(ids))
    alone = [int(hashes(np.array([one]))[0]) for one in ids]
    assert together.tolist() == alone


def test_folds_are_even():
    """Of 10,000 consecutive ids, each fold has a fifth: ± 4 standard deviations."""
    sizes = np.bincount(folds(names(range(10_000))), minlength=5)
    assert sizes == pytest.approx([2000] * 5, abs=160)


def test_a_space_is_named_by_all_that_its_reference_holds():
    base = entities([b"a", b"b"], [[1, 0], [0, 1]], [1, 2])
    others = [
        both(entities([b"a", b"c"], [[1, 0], [0, 1]], [1, 2])),
        both(entities([b"a", b"b"], [[1, 0], [0, -1]], [1, 2])),
        both(entities([b"a", b"b"], [[1, 0], [0, 1]], [1, 3])),
        {"consumer": base, "producer": entities([b"a"], [[1, 0]], [1])},
    ]
    found = {identity(sides) for sides in [both(base), *others]}
    assert len(found) == 5
    assert identity(both(entities([b"a", b"b"], [[1, 0], [0, 1]], [1, 2]))) in found
