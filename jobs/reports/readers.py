"""Linear readers of vectors: fitted once and served the vectors of later days, or fitted again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import share_of_gain, user_bootstrap
from embeddings.spaces.placement import rotated
from embeddings.spaces.reference import Entities, Sides, shared_rows
from jobs.reports.daily_factors import (
    Day,
    best_rotation_of_directions,
    days_of,
    row_ids,
)
from jobs.reports.methods import SVD
from jobs.reports.report import Row
from jobs.reports.streams import Stream

START = 30  # days of vectors before the first reader is fitted
STARTS = 5  # readers that are fitted once, on days evenly spaced
READER_AGES = (1, 7, 14, 30)
MIN_PAIRS = 100  # of a day that readers are fitted on or tested on
RESAMPLES = 200
RIDGE = 1e-3  # of the squared lengths
FROZEN, AGAIN, OLD, NONE = "fitted once", "fitted again", "old vectors", "chance"
BEST = "best rotation"
TRUTH_WINDOW = 7
TRUTH_EVERY = 14  # days


# Next-day engagements


@dataclass(frozen=True)
class Shown:
    """Pairs of a consumer and a producer, about half of them engagements of one day.

    The others are the same consumers with producers drawn by popularity that they did not engage
    with. consumers, producers:
    (n,), rows and columns of the stream; engaged: (n,) bool.
    """

    consumers: np.ndarray
    producers: np.ndarray
    engaged: np.ndarray


def shown_on(stream: Stream, number: int, seed: int) -> Shown:
    """The pairs of day `number`."""
    day = stream.days[number].tocoo()
    rng = np.random.default_rng((seed, number))
    others = rng.permutation(np.repeat(day.col, day.data.astype(np.int64)))[: len(day.row)]
    keys = day.row.astype(np.int64) * day.shape[1]
    new = ~np.isin(keys + others, keys + day.col)
    return Shown(
        np.concatenate([day.row, day.row[new]]),
        np.concatenate([day.col, others[new]]),
        np.repeat([True, False], [len(day.row), int(new.sum())]),
    )


def features(shown: Shown, sides: Sides) -> np.ndarray:
    """u_f v_f for every coordinate f, and 1; zeros for who has no vector: (n, k + 1)."""
    u = looked_up(sides["consumer"], shown.consumers)
    v = looked_up(sides["producer"], shown.producers)
    return np.hstack([u * v, np.ones((len(u), 1), np.float32)])


def looked_up(entities: Entities, rows: np.ndarray) -> np.ndarray:
    """The vectors of rows of the stream, zeros where there is none."""
    vectors = np.zeros((len(rows), entities.vectors.shape[1]), np.float32)
    distinct, place = np.unique(rows, return_inverse=True)
    found, at = shared_rows(row_ids(distinct), entities.ids)
    table = np.zeros((len(distinct), vectors.shape[1]), np.float32)
    table[found] = entities.vectors[at]
    vectors[:] = table[place]
    return vectors


def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least squares with a small ridge. x: (n, f), y: (n,) or (n, t). Returns (f,) or (f, t)."""
    gram = x.T.astype(np.float64) @ x
    ridge = RIDGE * np.trace(gram) / len(gram)
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T.astype(np.float64) @ y)


def reader_rows(stream: Stream, days: list[Day], aligned: list[Sides], seed: int) -> list[Row]:
    """AUC of the next day's engagements by a reader fitted once, at some ages.

    A reader is fitted on the pairs of day t with the vectors of day t − 1, and scores the pairs of
    day t + age with those of day t + age − 1. "fitted again" is fitted in the same way on the day
    before that; "best rotation" is fitted once, and served these vectors as the best rotation to
    day t − 1 alone brings them: what is lost there is lost by no space.
    """
    by_number = {day.number: sides for day, sides in zip(days, aligned, strict=True)}
    first = days[0].number + max(1, min(START, len(days) // 3))
    last = min(days[-1].number, len(stream.days) - 1)
    rows = []
    for age in READER_AGES:
        starts = []
        for start in range(first, last - age + 1):
            read = {start - 1, start + age - 2, start + age - 1}
            # Quiet days have too few pairs to fit a reader on.
            fewest = min(stream.days[start + n].nnz for n in (0, age - 1, age))
            if read <= by_number.keys() and fewest >= MIN_PAIRS:
                starts.append(start)
        if starts:
            chosen = np.unique(np.linspace(0, len(starts) - 1, STARTS).astype(np.int64))
            parts = [scores_at(stream, by_number, starts[n], age, seed) for n in chosen]
            rows.append({"age": age} | reader_row(parts, seed))
    return rows


def scores_at(
    stream: Stream, aligned: dict[int, Sides], start: int, age: int, seed: int
) -> dict[str, np.ndarray]:
    """The scores of all readers on the pairs of one day, and their consumers and labels."""
    served = aligned[start + age - 1]
    tested = shown_on(stream, start + age, seed)
    fitted = shown_on(stream, start, seed)
    once = fit(features(fitted, aligned[start - 1]), fitted.engaged)
    before = shown_on(stream, start + age - 1, seed)
    again = fit(features(before, aligned[start + age - 2]), before.engaged)
    x = features(tested, served)
    best = rotated(served, best_rotation_of_directions(served, aligned[start - 1]))
    return {
        "consumers": tested.consumers,
        "engaged": tested.engaged,
        FROZEN: x @ once,
        AGAIN: x @ again,
        BEST: features(tested, best) @ once,
        OLD: features(tested, aligned[start - 1]) @ once,
        NONE: np.zeros(len(x)),
    }


def reader_row(parts: list[dict[str, np.ndarray]], seed: int) -> Row:
    """The AUCs, and the share of the gain over chance that the reader keeps that is fitted once."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ways = (FROZEN, AGAIN, BEST, OLD, NONE)
    statistics = {way: partial(auc, columns["engaged"], columns[way]) for way in ways}
    estimates = user_bootstrap(columns["consumers"], statistics, RESAMPLES, seed)
    row: Row = {"pairs": len(columns["engaged"])}
    for way in (FROZEN, AGAIN, BEST, OLD):
        row[way] = estimates[way].value
    for name, other in (("share of again", AGAIN), ("share of best", BEST)):
        kept = share_of_gain(estimates[FROZEN], estimates[other], estimates[NONE])
        row |= kept.fields(name)
    return row | (estimates[FROZEN] - estimates[OLD]).fields("over old vectors")


# Simulated tastes


def truth_rows(
    stream: Stream,
    ways: dict[str, Callable[[list[Day], bool], list[np.ndarray]]],
    seed: int,
) -> list[Row]:
    """R² of simulated tastes by a reader fitted on the first day's vectors, every fortnight.

    "fitted again" is fitted on half of the consumers of that day; all are scored on the other half.
    """
    days = list(days_of(stream, TRUTH_WINDOW, SVD(32, 1.0), seed))
    rotations = {way: find(days, False) for way, find in ways.items()}
    once = {way: fit(*tastes_of(stream, days[0], found[0])) for way, found in rotations.items()}
    rows = []
    for place in range(TRUTH_EVERY, len(days), TRUTH_EVERY):
        row: Row = {"seed": seed, "day": days[place].number}
        for way, found in rotations.items():
            x, y = tastes_of(stream, days[place], found[place])
            half = np.arange(len(x)) % 2 == 0
            row[way] = r_squared(y[half], x[half] @ once[way])
        # In whatever coordinates.
        row[AGAIN] = r_squared(y[half], x[half] @ fit(x[~half], y[~half]))
        rows.append(row)
    return rows


def tastes_of(stream: Stream, day: Day, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the fitted consumers with a constant, (n, k + 1), and their tastes."""
    assert stream.truth is not None
    truth = stream.truth[day.number]
    entities = day.sides["consumer"]
    order = np.argsort(truth.ids)
    rows, at = shared_rows(entities.ids, row_ids(truth.ids[order]))
    x = entities.vectors[rows] @ rotation
    return np.hstack([x, np.ones((len(x), 1))]), truth.tastes[order][at]


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    """1 − residual / variance, over all columns together."""
    return float(1 - np.sum((truth - predicted) ** 2) / np.sum((truth - truth.mean(axis=0)) ** 2))
