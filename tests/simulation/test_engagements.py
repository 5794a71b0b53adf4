"""Impressions: the same however asked, outcomes by their probabilities, ids that fit together."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from simulation import engagements, items, people
from simulation.drift import STILL, Drift
from simulation.engagements import (
    DAY_MS,
    KINDS,
    LONG_VIEW_MS,
    Impressions,
    blocks,
    impressions,
    impressions_of,
    rows_of,
    stream,
)
from simulation.graph import follows
from simulation.items import catalog
from simulation.people import consumers, producers
from simulation.world import World

WORLD = World(
    consumers=20_000, producers=300, topics=8, impressions=3.0, drift=Drift(shocks=(2,)).scaled(3)
)


@pytest.fixture(scope="module")
def shown() -> Impressions:
    return impressions(WORLD, 6)


def forget() -> None:
    """Everything that is kept between calls."""
    for kept in (items.catalog, items.posts, people.producers):
        kept.cache_clear()


def test_a_day_has_the_same_bytes_however_it_is_asked_for(shown):
    """Alone, after the days before it, backwards block by block, and from an equal world."""
    assert blocks(WORLD) == 2
    forget()
    equal = World(**{field.name: getattr(WORLD, field.name) for field in fields(World)})
    for day in range(6):
        next(stream(equal, day))
    parts = [impressions_of(equal, 6, block) for block in (1, 0)]
    for column in fields(Impressions):
        together = np.concatenate([getattr(part, column.name) for part in reversed(parts)])
        assert together.tobytes() == getattr(shown, column.name).tobytes()


def test_other_seeds_and_days_are_other_events(shown):
    other_day = impressions_of(WORLD, 7, 0)
    other_seed = impressions_of(World(**{**vars(WORLD), "seed": 1}), 6, 0)
    other_block = impressions_of(WORLD, 6, 1)
    for other in (other_day, other_seed, other_block):
        assert not np.array_equal(other.times_ms[:100], shown.times_ms[:100])


def test_the_number_of_rows_is_known_without_them(shown):
    assert rows_of(WORLD, 6) == len(shown)
    assert len(shown) == pytest.approx(WORLD.consumers * WORLD.impressions, rel=0.05)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_outcomes_come_as_often_as_their_probabilities_say(shown, kind):
    """In each tenth of the rows by probability, within 4.5 standard deviations."""
    order = np.argsort(shown.probabilities[:, kind])
    for tenth in np.array_split(order, 10):
        p = shown.probabilities[tenth, kind].astype(np.float64)
        surplus = shown.labels[tenth, kind].sum() - p.sum()
        assert abs(surplus) < 4.5 * np.sqrt(np.sum(p * (1 - p)))


def test_only_what_was_clicked_has_another_outcome(shown):
    clicked = shown.labels[:, 0]
    assert not shown.labels[~clicked].any()
    assert shown.labels[clicked].any(axis=0).all()


def test_a_long_view_is_a_long_one(shown):
    long_view = shown.labels[:, KINDS.index("long_view")]
    np.testing.assert_array_equal(shown.dwell_ms >= LONG_VIEW_MS, long_view)
    assert shown.dwell_ms.min() > 0


def test_times_are_within_the_day(shown):
    assert shown.times_ms.min() >= 0
    assert shown.times_ms.max() < DAY_MS


def test_every_item_can_be_shown_on_the_day_and_is_its_producers(shown):
    known = catalog(WORLD, 6)
    owner = dict(zip(known.ids.tolist(), producers(WORLD, 6).ids[known.places], strict=True))
    assert len(owner) == len(known.ids)
    for item, producer in zip(shown.items.tolist(), shown.producers.tolist(), strict=True):
        assert owner[item] == producer


def test_items_disappear_with_their_producers():
    world = World(consumers=10, producers=500, topics=4, drift=Drift(producers=0.3))
    known = catalog(world, 9)
    for age in range(items.LIFE):
        posted = people.producer_ids(world, 9 - age)[known.places[known.age_days == age]]
        now = people.producer_ids(world, 9)[known.places[known.age_days == age]]
        np.testing.assert_array_equal(posted, now)


def test_older_items_are_shown_less():
    """1 : 0.4 : 0.16 among those that are not shown for their producer."""
    world = World(consumers=5000, producers=300, topics=4, impressions=4.0, drift=STILL)
    ages = np.zeros(items.LIFE)
    for day in range(4):
        shown, known = impressions(world, day), catalog(world, day)
        order = np.argsort(known.ids)
        rows = order[np.searchsorted(known.ids[order], shown.items[shown.surfaces == 1])]
        ages += np.bincount(known.age_days[rows], minlength=items.LIFE)
    np.testing.assert_allclose(ages / ages.sum(), np.array([1, 0.4, 0.16]) / 1.56, atol=0.06)


def test_who_is_shown_something_is_there_on_the_day(shown):
    assert set(shown.consumers.tolist()) <= set(consumers(WORLD, 6).ids.tolist())
    assert set(shown.producers.tolist()) <= set(producers(WORLD, 6).ids.tolist())


def test_the_surface_following_shows_producers_whom_the_consumer_follows(shown):
    crowd = consumers(WORLD, 6)
    rows, places = follows(WORLD, crowd)
    pairs = zip(crowd.ids[rows], producers(WORLD, 6).ids[places], strict=True)
    edges = set(pairs)
    following = shown.surfaces == 0
    assert following.mean() == pytest.approx(engagements.FOLLOWED, abs=0.05)
    for pair in zip(shown.consumers[following], shown.producers[following], strict=True):
        assert pair in edges


def test_the_smallest_world_has_days():
    tiny = World(consumers=1, producers=1, topics=2, impressions=50.0, drift=STILL)
    assert sum(len(impressions(tiny, day)) for day in range(5)) > 0


def test_an_impossible_world_is_named():
    with pytest.raises(ValueError, match="topics is 3; expected an even number"):
        World(topics=3)
    with pytest.raises(ValueError, match="producers is 0; expected at least 1"):
        World(producers=0)
