"""The factors of every day of a stream, and ways to put them into common coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from embeddings.spaces.placement import Keyframe, Placed, place, rotated
from embeddings.spaces.reference import (
    SIDES,
    Entities,
    Sides,
    first_reference,
    folds,
    pairs,
    shared_rows,
)
from embeddings.spaces.rotation import Rotations, canonical_axes, procrustes
from jobs.reports.methods import Method
from jobs.reports.streams import Stream

FIRST = date(2024, 1, 1)  # a date for day number 0, which the streams do not have
PRODUCERS = 10_000  # as many as `matrix.producers` keeps
MIN_ENGAGEMENTS = 2  # as `matrix.min_engagements`
HELD_OUT = 0  # the fold of entities that have no part in any rotation


def row_ids(rows: np.ndarray) -> np.ndarray:
    """Ids for rows of a matrix, (n,) bytes, in the order of the rows."""
    return np.array([b"%010d" % row for row in rows], dtype="S10")


def factors(stream: Stream, last: int, window: int, method: Method, seed: int) -> Sides | None:
    """Fit the window up to day number `last`; None where it has too little to fit.

    The ids are the rows and columns of the stream.
    """
    x = stream.window(last, window)
    popular = np.argsort(-x.getnnz(axis=0), kind="stable")[:PRODUCERS]
    columns = np.sort(popular[x.getnnz(axis=0)[popular] > 0])
    x = x[:, columns]
    rows = np.flatnonzero(np.asarray(x.sum(axis=1)).ravel() >= MIN_ENGAGEMENTS)
    x = x[rows]
    seen = x.getnnz(axis=0) > 0
    x, columns = x[:, seen].tocsr(), columns[seen]
    if min(x.shape) < 2:
        return None
    model = method.fit(x, seed, row_ids(columns))
    sums = [np.asarray(x.sum(axis=axis)).ravel() for axis in (1, 0)]
    return {
        "consumer": Entities.of_day(row_ids(rows), model.consumers, sums[0]),
        "producer": Entities.of_day(row_ids(columns), model.producers, sums[1]),
    }


@dataclass(frozen=True)
class Day:
    """A day of a stream. number: of the day; sides: as the solver returned them."""

    number: int
    sides: Sides

    @property
    def date(self) -> date:
        return FIRST + timedelta(days=self.number)


def days_of(stream: Stream, window: int, method: Method, seed: int) -> Iterator[Day]:
    """The factors of every day on which the window is full, each by a seed of its own."""
    for number in range(window - 1, len(stream.days)):
        sides = factors(stream, number, window, method, seed + number)
        if sides is not None:
            yield Day(number, sides)


def learners(sides: Sides) -> Sides:
    """The entities that rotations may be learned from: all but those that are held out."""
    chosen = {}
    for side, entities in sides.items():
        chosen[side] = entities.chosen(np.flatnonzero(folds(entities.ids) != HELD_OUT))
    return chosen


# Rotations of all days, learned from `learners` where `held_out`


def placements(days: list[Day], held_out: bool = False) -> list[Placed]:
    """What the step `align` does on consecutive days."""
    found: list[Placed] = []
    for day in days:
        keyframes: list[Keyframe] = []
        if found:
            newest = found[-1].keyframe
            keyframes = [each.keyframe for each in found if each.keyframe.day == newest.left]
            keyframes.append(newest)
        sides = learners(day.sides) if held_out else day.sides
        found.append(place(sides, keyframes, "space", day.date))
    return found


def by_reference(days: list[Day], held_out: bool) -> list[np.ndarray]:
    return [each.rotation for each in placements(days, held_out)]


def by_chain(days: list[Day], held_out: bool) -> list[np.ndarray]:
    """Each day rotated to the day before."""
    return one_after_another(days, held_out, lambda before, first: before)


def by_anchor(days: list[Day], held_out: bool) -> list[np.ndarray]:
    """Each day rotated to the first one."""
    return one_after_another(days, held_out, lambda before, first: first)


def one_after_another(
    days: list[Day], held_out: bool, choose: Callable[[Sides, Sides], Sides]
) -> list[np.ndarray]:
    """Each day rotated to one of the days before it. choose: of (the day before, the first day)."""
    rotations: list[np.ndarray] = []
    aligned: list[Sides] = []
    for day in days:
        sides = learners(day.sides) if held_out else day.sides
        if aligned:
            reference = first_reference(choose(aligned[-1], aligned[0]))
            rotations.append(Rotations.of(pairs(sides, reference)).whole)
        else:
            axes = canonical_axes(*(sides[side].vectors for side in SIDES))
            rotations.append(axes)
        aligned.append(rotated(sides, rotations[-1]))
    return rotations


def best_rotation(a: Sides, b: Sides) -> np.ndarray:
    """The rotation of a to b alone, by plain Procrustes: all shared entities, as they are."""
    parts_a, parts_b = [], []
    for side in SIDES:
        rows_a, rows_b = shared_rows(a[side].ids, b[side].ids)
        parts_a.append(a[side].vectors[rows_a])
        parts_b.append(b[side].vectors[rows_b])
    return procrustes(np.concatenate(parts_a), np.concatenate(parts_b))


def best_rotation_of_directions(a: Sides, b: Sides) -> np.ndarray:
    """The same for directions with weights, as the step rotates a day to the reference."""
    return Rotations.of(pairs(a, first_reference(b))).whole
