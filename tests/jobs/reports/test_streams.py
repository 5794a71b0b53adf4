"""Streams of daily engagements, their factors and readers of them, by hand and by slow loops."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from embeddings.spaces.judgement import RELATED
from embeddings.spaces.reference import Entities
from jobs.reports import spaces
from jobs.reports.daily_factors import (
    HELD_OUT,
    by_anchor,
    by_chain,
    by_reference,
    days_of,
    factors,
    learners,
    placements,
    row_ids,
)
from jobs.reports.methods import SVD
from jobs.reports.prefixes import prefix_rows
from jobs.reports.readers import (
    Shown,
    features,
    fit,
    r_squared,
    reader_rows,
    shown_on,
    tastes_of,
)
from jobs.reports.spaces import with_other_ids
from jobs.reports.streams import Stream, by_day, public_stream, simulated_stream
from simulation.small_world import SmallWorld

WORLD = SmallWorld(consumers=200, producers=80, topics=4, engagements=6.0)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return simulated_stream("small", WORLD, 12, 0)


def test_a_matrix_per_day_against_a_slow_loop():
    rng = np.random.default_rng(0)
    numbers, rows, columns = rng.integers(0, [[4], [5], [6]], size=(3, 60))
    numbers[numbers == 2] = 3  # a day without events
    expected = np.zeros((4, rows.max() + 1, columns.max() + 1))
    for number, row, column in zip(numbers, rows, columns, strict=True):
        expected[number, row, column] += 1
    found = by_day(numbers, rows, columns)
    np.testing.assert_array_equal([day.toarray() for day in found], expected)
    window = Stream("x", found).window(3, 3)
    np.testing.assert_array_equal(window.toarray(), expected[1:].sum(axis=0))


def test_a_public_log_is_read_by_days_from_its_first_event(tmp_path):
    folder = tmp_path / "snap-temporal-small"
    folder.mkdir()
    start = 1_000_000
    lines = [(7, 8, start), (7, 9, start + 86_399), (9, 8, start + 86_400), (9, 8, start + 86_401)]
    text = "".join(f"{a} {b} {t}\n" for a, b, t in lines)
    (folder / "CollegeMsg.txt.gz").write_bytes(gzip.compress(text.encode()))
    found = public_stream("CollegeMsg", tmp_path)
    assert isinstance(found, Stream)
    expected = [[[1, 1], [0, 0]], [[0, 0], [2, 0]]]
    np.testing.assert_array_equal([day.toarray() for day in found.days], expected)


@pytest.mark.parametrize("folder", [None, Path("/nowhere")])
def test_a_log_that_is_absent_is_left_out_with_the_remedy(folder):
    message = public_stream("Globo", folder)
    assert isinstance(message, str)
    assert message.startswith("Globo left out: ")
    assert "--data or EVERGREEN_DATA" in message


def test_factors_reproduce_the_matrix_that_they_were_fitted_on(stream):
    """With as many dimensions as producers, products are the normalised strengths."""
    window = stream.window(11, 3)
    sides = factors(stream, 11, 3, SVD(80), 0)
    assert sides is not None
    u, v = sides["consumer"], sides["producer"]
    x = window[u.ids.astype(int)][:, v.ids.astype(int)].toarray()
    rows, columns = x.sum(axis=1, keepdims=True), x.sum(axis=0, keepdims=True)
    np.testing.assert_allclose(u.vectors @ v.vectors.T, x / np.sqrt(rows * columns), atol=2e-3)
    np.testing.assert_allclose(u.weights**2, rows.ravel(), rtol=1e-5)


def test_held_out_entities_have_no_part_in_any_rotation(stream):
    days = list(days_of(stream, 3, SVD(8, 1.0), 0))
    spoiled = []
    rng = np.random.default_rng(0)
    for day in days:
        sides = {}
        for side, entities in day.sides.items():
            kept = np.isin(entities.ids, learners(day.sides)[side].ids)
            noise = rng.normal(size=entities.vectors.shape).astype(np.float32)
            vectors = np.where(kept[:, None], entities.vectors, noise)
            sides[side] = Entities(entities.ids, vectors, entities.weights)
        spoiled.append(type(day)(day.number, sides))
    assert HELD_OUT == 0
    for way in (by_reference, by_chain, by_anchor):
        np.testing.assert_array_equal(way(days, True), way(spoiled, True))


def test_a_planted_break_is_found_on_its_day_and_nothing_else(stream, monkeypatch):
    """Of ids and of tastes."""
    monkeypatch.setattr(spaces, "BREAK", 6)
    monkeypatch.setitem(spaces.WINDOWS, "small", (1,))
    rows = spaces.break_rows([stream], 0)
    assert [row["opened on day"] for row in rows] == ["6", "6"]
    # Not because too few are shared: they are compared, and agree no better than at random.
    assert max(row["deviation where opened"] for row in rows) < RELATED < rows[0]["least deviation"]


def test_other_ids_are_the_same_on_each_day_and_no_two_are_equal(stream):
    days = list(days_of(stream, 3, SVD(4, 1.0), 0))
    names: dict[bytes, bytes] = {}
    for day in days:
        renamed = with_other_ids(day, stream.days[0].shape, 1).sides["consumer"]
        by_vector = {v.tobytes(): i for i, v in zip(renamed.ids, renamed.vectors, strict=True)}
        for old, vector in zip(
            day.sides["consumer"].ids, day.sides["consumer"].vectors, strict=True
        ):
            other = by_vector[vector.tobytes()]
            assert names.setdefault(old, other) == other
        assert (np.sort(renamed.ids) == renamed.ids).all()
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("n", range(1, 7))
def test_a_short_log_has_fewer_rows_and_no_error(stream, n):
    days = list(islice(days_of(stream, 3, SVD(4, 1.0), 0), n))
    found = placements(days)
    aligned = spaces.in_space(days, found)
    assert len(spaces.age_rows(days, 0)) == (n > 1)
    assert len(prefix_rows(stream, days, aligned, 3, 0)) == 3
    ages = [row["age"] for row in reader_rows(stream, days, aligned, 0)]
    assert ages == ([1] if n >= 3 else [])


# Readers


def test_half_of_the_pairs_are_engagements_and_none_of_the_others_is(stream):
    shown = shown_on(stream, 5, 0)
    day = stream.days[5].toarray()
    np.testing.assert_array_equal(day[shown.consumers, shown.producers] > 0, shown.engaged)
    assert shown.engaged.sum() == np.count_nonzero(day)
    assert 0.7 < (~shown.engaged).sum() / shown.engaged.sum() <= 1


def test_features_are_products_by_coordinate_and_zero_without_a_vector():
    side = Entities(row_ids([1, 3]), np.array([[1, 2], [3, 4]], np.float32), np.ones(2, np.float32))
    shown = Shown(np.array([3, 1, 2]), np.array([1, 3, 3]), np.ones(3, bool))
    found = features(shown, {"consumer": side, "producer": side})
    np.testing.assert_array_equal(found, [[3, 8, 1], [3, 8, 1], [0, 0, 1]])


def test_a_reader_is_a_least_squares_fit():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 5)), rng.normal(size=(400, 2))
    expected = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(fit(x, y), expected, atol=3e-4)


def test_r_squared_by_hand():
    """Residual 1 of a variance of 2."""
    assert r_squared(np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]])) == pytest.approx(0.5)


def test_tastes_are_those_of_the_consumers_with_vectors(stream):
    day = next(iter(days_of(stream, 3, SVD(4, 1.0), 0)))
    x, tastes = tastes_of(stream, day, np.eye(4))
    ids = day.sides["consumer"].ids.astype(int)
    assert stream.truth is not None
    np.testing.assert_array_equal(tastes, stream.truth[day.number].tastes[ids])
    np.testing.assert_allclose(x[:, :4], day.sides["consumer"].vectors)
