"""Where days are placed: one space for months, and a new one only where the truth breaks."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from spaces import day_of, in_other_coordinates, names, orthogonal, seeds, world
from threadpoolctl import threadpool_limits

from embeddings.spaces.placement import Placed, place
from embeddings.spaces.reference import Entities, Sides, identity
from embeddings.spaces.similarity import mean_cosine

FIRST = date(2024, 1, 1)


def placed(days: list[Sides]) -> list[Placed]:
    """Consecutive days, each after the one before and the one that this may have left."""
    found: list[Placed] = []
    for number, sides in enumerate(days):
        candidates = []
        if found:
            newest = found[-1].keyframe
            candidates = [each.keyframe for each in found if each.keyframe.day == newest.left]
            candidates.append(newest)
        found.append(place(sides, candidates, "author", FIRST + timedelta(days=number)))
    return found


def spaces(days: list[Sides]) -> list[str]:
    return [each.keyframe.space for each in placed(days)]


def test_days_of_one_truth_stay_in_one_space_and_agree_with_the_first():
    """Sixty days: the last is as close to the first as the best rotation of these two."""
    truth = world(0, 8)
    days = [day_of(truth, seed, noise_directions=4) for seed in range(60)]
    found = placed(days)
    assert len({each.keyframe.space for each in found}) == 1
    first, last = (days[number]["producer"].rotated(found[number].rotation) for number in (0, -1))
    _, rows, others = np.intersect1d(last.ids, first.ids, return_indices=True)
    # Eight true directions of 12: the others are noise, which no rotation can align.
    assert mean_cosine(last.vectors[rows], first.vectors[others]) > 0.55


@settings(max_examples=10)
@given(seeds)
def test_rotating_the_factors_of_a_day_changes_nothing_that_it_leaves(seed):
    """Nor of the days after it: solvers return any rotation."""
    rng = np.random.default_rng(seed)
    truth = world(seed, 5)
    days = [day_of(truth, number) for number in range(4)]
    turned = [in_other_coordinates(day, orthogonal(5, rng)) for day in days]
    for one, other in zip(placed(days), placed(turned), strict=True):
        for side, entities in one.keyframe.reference.items():
            again = other.keyframe.reference[side]
            np.testing.assert_array_equal(again.ids, entities.ids)
            np.testing.assert_allclose(again.vectors, entities.vectors, atol=2e-4)


def test_directions_of_noise_open_no_space():
    """Four true directions among sixty of noise, most of which a mean cosine would count."""
    truth = world(3, 4, n=600)
    days = [day_of(truth, seed, noise=0.1, noise_directions=60) for seed in range(5)]
    found = placed(days)
    assert len({each.keyframe.space for each in found}) == 1
    assert [int(each.compared[0].judgement.stable.sum()) for each in found[1:]] == [4] * 4


def test_a_truth_that_breaks_opens_a_space_on_that_day():
    before, after = world(0, 8), world(1, 8)
    days = [day_of(before if number < 5 else after, number) for number in range(10)]
    found = placed(days)
    names_of = [each.keyframe.space for each in found]
    assert len(set(names_of)) == 2
    assert names_of.index(names_of[-1]) == 5
    assert "no more like the reference that 2024-01-05 left than pairs at random" in found[5].opened
    assert found[5].keyframe.left == date(2024, 1, 5)
    assert [each.keyframe.days for each in found] == [1, 2, 3, 4, 5] * 2


def test_after_one_odd_day_the_space_before_it_goes_on():
    before, odd = world(0, 8), world(1, 8)
    found = spaces([day_of(odd if number == 3 else before, number) for number in range(6)])
    assert found[3] not in (found[:3] + found[4:])
    assert len(set(found[:3] + found[4:])) == 1


def test_after_some_nearly_empty_days_the_space_before_them_goes_on():
    """They agree with each other, but the space with more days behind it is preferred."""
    truth, odd = world(0, 8), world(1, 8)
    days = [day_of(odd if number in (4, 5, 6) else truth, number) for number in range(10)]
    found = placed(days)
    names_of = [each.keyframe.space for each in found]
    assert len(set(names_of[:4] + names_of[7:])) == 1
    assert len({names_of[0], *names_of[4:7]}) == 2
    assert [each.keyframe.days for each in found] == [1, 2, 3, 4, 1, 2, 3, 5, 6, 7]


def test_a_space_that_has_become_the_longer_one_is_not_left():
    """Two days of one truth, three of another, then one more of the first: a third space."""
    truth, other = world(0, 8), world(1, 8)
    order = [truth] * 2 + [other] * 3 + [truth]
    found = placed([day_of(each, number) for number, each in enumerate(order)])
    assert [each.keyframe.days for each in found] == [1, 2, 1, 2, 3, 1]
    assert len({each.keyframe.space for each in found}) == 3


def test_renamed_entities_are_a_break():
    """The same vectors under other ids."""
    truth = world(0, 8)
    days = [day_of(truth, number, present=1.0) for number in range(2)]
    renamed = {
        side: Entities(entities.ids, entities.vectors[::-1].copy(), entities.weights)
        for side, entities in days[1].items()
    }
    assert len(set(spaces([*days, renamed]))) == 2


@pytest.mark.parametrize(
    ("shift", "reason"),
    [(1000, "0 of its consumers and producers"), (111, "18 of its consumers and producers")],
)
def test_too_few_shared_entities_open_a_space_and_are_named(shift, reason):
    truth = world(0, 4)
    days = [day_of(truth, number, present=1.0) for number in range(2)]
    moved = {
        side: Entities(names(range(shift, shift + 120)), entities.vectors, entities.weights)
        for side, entities in days[1].items()
    }
    found = placed([days[0], moved])
    assert found[1].keyframe.space != found[0].keyframe.space
    assert f"{reason} are in the reference that 2024-01-01 left" in found[1].opened


def test_the_first_day_is_on_its_own_axes_and_says_why():
    """Its space is the same whatever coordinates it was given in."""
    day = day_of(world(0, 4), 0)
    found = placed([day])[0]
    assert found.opened == "there is no day before it that could be compared."
    assert found.joined is None
    rotated = day["producer"].rotated(found.rotation).vectors
    lengths = np.linalg.norm(rotated, axis=0)
    assert lengths[0] == max(lengths)


def test_the_number_of_threads_changes_no_byte():
    """A home that is computed again with other cores keeps the names of its spaces."""
    truth = world(0, 32, n=5001)
    days = [day_of(truth, seed) for seed in range(2)]
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append([identity(each.keyframe.reference) for each in placed(days)])
    assert found[0] == found[1]


def test_two_spaces_of_one_day_and_name_differ_by_their_content():
    found = {spaces([day_of(world(seed, 4), seed)])[0] for seed in range(3)}
    assert len(found) == 3
    assert all(name.startswith("author-2024-01-01-") for name in found)
