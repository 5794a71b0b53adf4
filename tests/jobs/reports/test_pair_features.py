"""What vectors say of a consumer and a candidate, against slow loops over the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jobs.reports import pair_features
from jobs.reports.methods import SVD
from jobs.reports.pair_features import (
    Engaged,
    Sides,
    learned,
    lookalike_features,
    product_features,
    recent,
    recent_features,
)

RNG = np.random.default_rng(0)
N, M, K, R = 7, 9, 3, 60


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pair_features, "ROWS", 16)


@pytest.fixture
def sides() -> Sides:
    """The last consumer and the last entity have no vector."""
    consumers, entities = (RNG.normal(size=(n, K)).astype(np.float32) for n in (N, M))
    consumers[-1], entities[-1] = 0, 0
    return Sides(consumers, entities, 2 * entities)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    return RNG.integers(-1, N, R), RNG.integers(-1, M, R)


def is_known(vectors: np.ndarray, position: int) -> bool:
    return bool(position >= 0 and vectors[position].any())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_products(sides, rows):
    found = product_features(sides, *rows)
    for (product, similarity), u, v in zip(found, *rows, strict=True):
        if is_known(sides.consumers, u) and is_known(sides.entities, v):
            assert product == pytest.approx(sides.consumers[u] @ sides.targets[v], rel=1e-5)
            expected = cosine(sides.consumers[u], sides.entities[v])
            assert similarity == pytest.approx(expected, rel=1e-5)
        else:
            assert np.isnan([product, similarity]).all()


def test_similarity_to_what_was_engaged_with_last(sides, rows):
    last = RNG.integers(-1, M, (N, 4))
    last[0] = -1  # nothing before
    found = recent_features(sides, last, *rows)
    for (mean, highest), u, v in zip(found, *rows, strict=True):
        others = [] if u < 0 else [j for j in last[u] if is_known(sides.entities, j)]
        if others and is_known(sides.entities, v):
            cosines = [cosine(sides.entities[v], sides.entities[j]) for j in others]
            assert mean == pytest.approx(np.mean(cosines), abs=1e-5)
            assert highest == pytest.approx(max(cosines), abs=1e-5)
        else:
            assert np.isnan([mean, highest]).all()


def test_products_with_the_mean_consumers_of_the_groups(sides, rows):
    """A consumer who is in several rows is one member of the group."""
    consumers, candidates = rows
    profiles = RNG.integers(0, 3, (N + 1, 4))  # of each consumer; the last of whom is not known
    groups = profiles[consumers]
    found = lookalike_features(sides, groups, consumers, candidates)
    for row, v in enumerate(candidates):
        if not is_known(sides.entities, v):
            assert np.isnan(found[row]).all()
            continue
        products = []
        for column in range(groups.shape[1]):
            same = set(consumers[groups[:, column] == groups[row, column]].tolist())
            members = [sides.consumers[u] for u in same if is_known(sides.consumers, u)]
            mean = np.mean(members, axis=0) if members else np.zeros(K)
            products.append(mean @ sides.targets[v])
        expected = [max(products), np.median(products), min(products)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def engaged(pairs: list[tuple[int, int]]) -> Engaged:
    rows, columns = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    ids = [pd.Index([str(number) for number in range(n)]) for n in (N, M)]
    return Engaged(ids[0], ids[1], rows, columns, np.ones(len(rows)))


def test_the_last_ones_are_each_there_once_and_newest_last():
    found = recent(engaged([(0, 1), (0, 2), (1, 5), (0, 1), (0, 3), (0, 4)]), most=3)
    assert found[0].tolist() == [1, 3, 4]
    assert found[1].tolist() == [5, -1, -1]
    assert (found[2:] == -1).all()


def test_a_window_without_engagements_has_no_vectors():
    nothing = Engaged(pd.Index([]), pd.Index([]), *(np.zeros(0, np.int64) for _ in range(3)))
    sides = learned(nothing, SVD(K), 2)
    unknown = np.array([-1, -1])
    assert np.isnan(recent_features(sides, recent(nothing), unknown, unknown)).all()
    assert np.isnan(lookalike_features(sides, np.zeros((2, 1)), unknown, unknown)).all()
    assert np.isnan(product_features(sides, unknown, unknown)).all()
