"""The follow graph: heavy tails on both sides, edges that stay, and a taste for one's topics."""

from __future__ import annotations

import numpy as np

from simulation.drift import Drift
from simulation.graph import follows, main_topics
from simulation.people import consumers
from simulation.world import World

WORLD = World(consumers=8000, producers=1000, topics=8, drift=Drift(consumers=0))


def share_of_top(counts: np.ndarray, top: float) -> float:
    """The share of all edges that the most connected nodes have; top: their share of the nodes."""
    ordered = np.sort(counts)[::-1]
    return ordered[: int(top * len(counts))].sum() / counts.sum()


def test_most_nodes_have_few_edges_and_some_a_large_share():
    rows, places = follows(WORLD, consumers(WORLD, 0))
    out, followers = np.bincount(rows), np.bincount(places, minlength=WORLD.producers)
    assert np.median(out) <= 4
    assert out.min() == 2
    assert share_of_top(out, 0.01) > 0.15
    assert share_of_top(followers, 0.01) > 0.15
    assert np.median(followers) < followers.mean() / 1.5


def test_the_edges_are_the_same_on_every_day():
    for one, other in zip(
        follows(WORLD, consumers(WORLD, 0)), follows(WORLD, consumers(WORLD, 50)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_consumers_follow_producers_of_topics_that_they_like():
    crowd = consumers(WORLD, 0)
    rows, places = follows(WORLD, crowd)
    topics = main_topics(WORLD, np.arange(WORLD.producers))[places]
    liking = crowd.first_tastes()[rows, topics]
    assert liking.mean() > 0.8  # 0 by chance
