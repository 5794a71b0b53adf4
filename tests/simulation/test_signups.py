"""Newcomers, e-mails and labels: what their rates and shares promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.drift import STILL
from simulation.emails import emails
from simulation.labels import interested_in, known_for, labels
from simulation.people import consumers, producers
from simulation.signups import (
    KEPT_DAYS,
    TOP_DOMAINS,
    domain_topics,
    regions,
    remembered_visits,
    signups,
)
from simulation.world import World

WORLD = World(consumers=60_000, producers=2000, topics=8)


@pytest.fixture(scope="module")
def new():
    return signups(WORLD, 9)


def test_newcomers_are_those_who_were_not_there_the_day_before(new):
    before, now = (set(consumers(WORLD, day).ids.tolist()) for day in (8, 9))
    assert set(new.crowd.ids.tolist()) == now - before
    assert len(now - before) == pytest.approx(600, abs=100)


def test_nobody_signs_up_in_a_still_world():
    assert len(signups(replace(WORLD, drift=STILL), 9).crowd.ids) == 0


def test_nearly_all_browsers_see_the_top_domains_and_few_the_hundredth():
    """Of ten days: over 80 % and half a percent, as Shiebler et al. 2018 report."""
    days = [signups(WORLD, day) for day in range(3, 13)]
    browsers = sum(len(day.crowd.ids) for day in days)
    counts = sum(np.bincount(day.visits[:, 1], minlength=1000) for day in days)
    shares = counts / browsers
    assert shares[:TOP_DOMAINS].min() > 0.8
    assert shares[TOP_DOMAINS] < 0.8
    assert shares[94:105].mean() == pytest.approx(0.005, abs=0.001)


def test_the_sites_that_a_newcomer_has_visited_say_what_it_likes(new):
    rows, domains = new.visits[new.visits[:, 1] >= TOP_DOMAINS].T
    liking = new.crowd.tastes()[rows, domain_topics(WORLD)[domains]]
    assert liking.mean() > 0.3  # 0 by chance


def test_the_visits_of_four_weeks_are_remembered():
    """Of half of the consumers of day 33: those of each sign-up day, and of nobody before day 5."""
    world = replace(WORLD, consumers=6000)
    crowd = consumers(world, 33, np.arange(0, world.consumers, 2))
    found = {}
    for row, domain in remembered_visits(crowd).tolist():
        found.setdefault(int(crowd.ids[row]), []).append(domain)
    there = set(crowd.ids.tolist())
    expected = {}
    for day in range(33 - KEPT_DAYS, 34):
        new = signups(world, day)
        for row, domain in new.visits.tolist():
            if (consumer := int(new.crowd.ids[row])) in there:
                expected.setdefault(consumer, []).append(domain)
    assert found == expected
    before = crowd.ids[(crowd.born < 5) & (crowd.ids >= world.consumers)]
    assert len(before) > 50
    assert not set(before.tolist()) & found.keys()


def test_the_declared_interests_are_liked(new):
    declared = new.interests >= 0
    assert declared.mean() == pytest.approx(0.6, abs=0.08)
    rows = np.flatnonzero(declared)
    assert new.crowd.tastes()[rows, new.interests[rows]].mean() > 0.8


def test_half_of_an_address_book_lives_in_the_same_region(new):
    rows, ids = new.contacts.T
    assert set(ids.tolist()) <= set(consumers(WORLD, 9).ids.tolist())
    same = new.regions[rows] == regions(WORLD, ids)
    by_chance = np.sum((np.bincount(regions(WORLD, consumers(WORLD, 9).ids)) / 60_000) ** 2)
    assert same.mean() == pytest.approx(0.5 + 0.5 * by_chance, abs=0.05)


def test_emails_are_clicked_as_often_as_their_probabilities_say():
    sent = [emails(WORLD, day) for day in range(20)]
    p = np.concatenate([day.probabilities for day in sent])
    clicked = np.concatenate([day.clicked for day in sent])
    order = np.argsort(p)
    for part in (order, *np.array_split(order, 4)):
        surplus = clicked[part].sum() - p[part].sum()
        assert abs(surplus) < 4 * np.sqrt(np.sum(p[part] * (1 - p[part])))


def test_people_label_the_most_popular_producers_and_are_mostly_right():
    found = labels(WORLD, 5)
    everyone = producers(WORLD, 5)
    popularity = dict(zip(everyone.ids.tolist(), everyone.popularity, strict=True))
    others = set(popularity) - set(found.ids.tolist())
    assert min(popularity[p] for p in found.ids.tolist()) >= max(popularity[p] for p in others)
    truth = known_for(WORLD, 5)[found.ids % WORLD.producers].argmax(axis=1)
    assert 0.92 < np.mean(truth == found.topics) < 0.99


def test_degrees_are_shares_and_those_of_consumers_follow_their_tastes():
    crowd = consumers(WORLD, 5, np.arange(100))
    shares = interested_in(crowd)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=1), crowd.tastes().argmax(axis=1))
