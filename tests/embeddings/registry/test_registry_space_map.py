"""The map of a space: the busiest producers on two axes, coloured by a feature."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish, vectors

from embeddings.registry.space_map import MARGIN, SHOWN, SIZE, main_directions, space_map


def publish_producers(registry, n: int, dim: int = 4):
    entities, fold_in = parts(producers=n, dim=dim)
    return registry.publish("author", DAY, SPACE, entities, fold_in, {})


def test_the_busiest_producers_are_shown_within_the_square(plain):
    version = publish_producers(plain, SHOWN + 100)
    found = space_map(plain, version)
    producers = vectors([f"p{i}" for i in range(SHOWN + 100)], 4, 1)
    busiest = producers.counts >= np.sort(producers.counts)[-SHOWN]
    assert len(found.points) == SHOWN
    assert {point.id.encode() for point in found.points} <= set(producers.ids[busiest].tolist())
    places = np.array([(point.x, point.y) for point in found.points])
    assert places.min() >= MARGIN - 0.1
    assert places.max() <= SIZE - MARGIN + 0.1
    assert (found.coloured_by, found.legend) == ("", [])


def test_the_axes_are_those_of_the_largest_variance_with_a_fixed_sign():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 5)) * [3, 2, 1, 0.5, 0.1]
    places, share = main_directions(rows)
    variance = rows.var(axis=0)
    assert share == pytest.approx((variance[0] + variance[1]) / variance.sum(), abs=0.02)
    # Up to the sample's own rotation they are the first two columns, with a positive sign.
    assert np.corrcoef(places[:, 0], rows[:, 0])[0, 1] > 0.98
    assert np.corrcoef(places[:, 1], rows[:, 1])[0, 1] > 0.98


def test_colours_are_those_of_the_days_feature_and_never_of_a_later_one(plain):
    version = publish_producers(plain, 6)
    ids = np.array([f"p{i}".encode() for i in range(6)])
    today = np.array([b"art", b"art", b"sport", b"", b"sport", b"art"])
    later = np.array([b"x"] * 6)
    plain.publish_features("topics", DAY, "producer", ids, {"topic": today}, {})
    plain.publish_features("topics", DAY + timedelta(days=1), "producer", ids, {"topic": later}, {})
    found = space_map(plain, version)
    assert (found.coloured_by, found.legend) == ("topics.topic", ["art", "sport"])
    assert {point.id: point.colour for point in found.points} == {
        "p0": 0,
        "p1": 0,
        "p2": 1,
        "p3": -1,
        "p4": 1,
        "p5": 0,
    }


def test_too_few_producers_have_no_map(plain):
    assert space_map(plain, publish_producers(plain, 2)) is None
    assert space_map(plain, publish(plain)) is not None


def test_a_damaged_table_of_features_costs_the_colours_only(plain):
    version = publish_producers(plain, 6)
    ids = np.array([f"p{i}".encode() for i in range(6)])
    table = plain.publish_features("topics", DAY, "producer", ids, {"name": ids}, {})
    (table.path / "columns" / "name.npy").write_bytes(b"")
    assert space_map(plain, version).legend == []
