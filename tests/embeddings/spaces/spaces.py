"""Days of a world whose truth is known, as alignment reads them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from embeddings.spaces.reference import SIDES, Entities, Sides

seeds = st.integers(0, 10_000)
N = 120  # entities of each side in a world


def orthogonal(k: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix, which may include a reflection."""
    return np.linalg.qr(rng.normal(size=(k, k)))[0]


def names(numbers: np.ndarray | range) -> np.ndarray:
    return np.array([b"%06d" % number for number in numbers], dtype="S6")


def world(seed: int, k: int, n: int = N) -> dict[str, np.ndarray]:
    """The true vectors of both sides, (n, k) each."""
    rng = np.random.default_rng(seed)
    return {side: rng.normal(size=(n, k)) for side in SIDES}


def day_of(
    truth: dict[str, np.ndarray],
    seed: int,
    noise: float = 0.3,
    noise_directions: int = 0,
    present: float = 0.8,
) -> Sides:
    """A day's factors: the truth of some entities with noise, in coordinates of the day alone.

    noise_directions: columns of nothing but noise. present: share of the entities.
    """
    rng = np.random.default_rng(seed)
    k = truth["consumer"].shape[1] + noise_directions
    rotation = orthogonal(k, rng)
    sides = {}
    for side, vectors in truth.items():
        rows = np.flatnonzero(rng.random(len(vectors)) < present)
        seen = vectors[rows] + noise * rng.normal(size=vectors[rows].shape)
        empty = rng.normal(size=(len(rows), noise_directions))
        strengths = rng.integers(1, 30, len(rows)).astype(float)
        sides[side] = Entities.of_day(names(rows), np.hstack([seen, empty]) @ rotation, strengths)
    return sides


def in_other_coordinates(day: Sides, rotation: np.ndarray) -> Sides:
    return {side: entities.rotated(rotation) for side, entities in day.items()}
