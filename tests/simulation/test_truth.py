"""What no model can surpass, by slow loops and by drawing again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulation.drift import STANDING, STILL, Drift
from simulation.engagements import KINDS, impressions
from simulation.people import consumers, producers
from simulation.truth import Retrieval, expected_auc, expected_log_loss, prospects, rates
from simulation.world import World

SMALL = World(consumers=40, producers=12, topics=4, impressions=5000.0, drift=Drift(shocks=(2,)))
RETRIEVAL = World(consumers=6000, producers=500, topics=8, impressions=1.0)


def test_the_expected_auc_is_that_of_a_slow_loop():
    p = np.array([0.1, 0.7, 0.3, 0.3, 0.9])
    won = pairs = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                pair = p[i] * (1 - p[j])
                pairs += pair
                won += pair * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert expected_auc(p) == pytest.approx(won / pairs)
    assert np.isnan(expected_auc(p[:1]))


def test_the_expected_log_loss_is_the_mean_over_draws_and_other_predictions_lose_more():
    rng = np.random.default_rng(0)
    p = rng.random(50)
    labels = rng.random((20_000, 50)) < p
    losses = {}
    for name, guess in (("true", p), ("other", np.clip(p + 0.05, 0.01, 0.99))):
        losses[name] = -np.mean(np.where(labels, np.log(guess), np.log(1 - guess)))
    assert expected_log_loss(p) == pytest.approx(losses["true"], abs=0.003)
    assert losses["other"] > losses["true"]


@pytest.mark.parametrize("kind", ["click", "follow"])
def test_rates_are_how_often_pairs_engage(kind):
    """Each number of engagements is Poisson: standardised, its variance is 1."""
    crowd = consumers(SMALL, 3)
    expected = rates(SMALL, crowd, kind)
    shown = impressions(SMALL, 3)
    counts = np.zeros((40, 12))
    columns = shown.producers % SMALL.producers
    np.add.at(
        counts, (shown.consumers % 40, columns), shown.labels[:, KINDS.index(kind)].astype(int)
    )
    often = expected > 5
    surplus = (counts[often] - expected[often]) / np.sqrt(expected[often])
    assert np.std(surplus) == pytest.approx(1, abs=0.2)
    assert np.mean(surplus) == pytest.approx(0, abs=0.35)
    assert counts[expected == 0].sum() == 0


def test_prospects_are_the_mean_of_the_rates_over_what_may_be_posted():
    world = World(consumers=30, producers=60, topics=8, impressions=1.0, drift=STILL)
    crowd = consumers(world, 0)
    days = range(0, 300, 3)  # catalogs without common items
    mean = np.mean([rates(world, replace(crowd, day=day)) for day in days], axis=0)
    expected = prospects(world, crowd)
    assert expected.sum() == pytest.approx(mean.sum(), rel=0.02)
    assert np.corrcoef(expected.ravel(), mean.ravel())[0, 1] > 0.99


def test_without_new_items_every_day_is_another_draw_from_the_same_rates():
    for drift, same in ((STANDING, True), (STILL, False)):
        world = replace(RETRIEVAL, consumers=100, drift=drift)
        before, after = (rates(world, consumers(world, day)) for day in (0, 9))
        assert np.array_equal(before, after) == same
    shown = [impressions(replace(RETRIEVAL, drift=STANDING), day).items for day in (0, 9)]
    assert set(shown[0]) & set(shown[1])
    assert not np.array_equal(*shown)


def test_the_truth_of_earlier_days_is_worth_less_where_the_world_drifts():
    judged = Retrieval.of(replace(RETRIEVAL, drift=Drift().scaled(2)), 30, 400)
    means = [judged.ndcg(judged.scores(age)).mean() for age in (0, 10, 30)]
    popular = np.broadcast_to(producers(judged.world, 30).popularity, judged.engaged.shape)
    best = judged.ndcg(rates(judged.world, judged.crowd)).mean()
    assert best > means[0] > means[1] > means[2]
    assert means[0] > judged.ndcg(popular).mean() + 0.05


def test_in_a_still_world_the_truth_does_not_age():
    judged = Retrieval.of(replace(RETRIEVAL, drift=STILL), 30, 50)
    np.testing.assert_array_equal(judged.scores(0), judged.scores(17))


def test_a_producer_who_has_come_since_had_no_prospects():
    judged = Retrieval.of(replace(RETRIEVAL, drift=Drift(producers=0.1)), 30, 20)
    before, now = (producers(judged.world, day).ids for day in (23, 30))
    assert 0.2 < np.mean(before != now) < 0.8
    np.testing.assert_array_equal(judged.scores(7).max(axis=0) > 0, before == now)


def test_the_engaged_pairs_are_those_of_the_log():
    judged = Retrieval.of(RETRIEVAL, 4, 10**9)
    shown = impressions(RETRIEVAL, 4)
    clicks = shown.labels[:, 0]
    pairs = set(zip(shown.consumers[clicks], shown.producers[clicks], strict=True))
    rows, columns = np.nonzero(judged.engaged)
    found = zip(judged.crowd.ids[rows], producers(RETRIEVAL, 4).ids[columns], strict=True)
    assert set(found) == pairs


def test_ndcg_by_hand():
    judged = Retrieval(SMALL, consumers(SMALL, 0), np.array([[True, False, True]]))
    scores = np.array([[0.9, 0.5, 0.1]])
    assert judged.ndcg(scores, 3)[0] == pytest.approx((1 + 0.5) / (1 + 1 / np.log2(3)))
    assert judged.ndcg(scores, 1)[0] == 1
