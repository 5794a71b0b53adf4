"""Do the first columns of vectors still mean most, after months of rotations?"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import mean_estimates
from embeddings.benchmarks.metrics import rank
from embeddings.spaces.reference import SIDES, Sides
from embeddings.spaces.rotation import canonical_axes
from jobs.reports.daily_factors import Day, factors
from jobs.reports.methods import SVD
from jobs.reports.report import Row
from jobs.reports.streams import Stream

COLUMNS = (8, 16, 32)
TESTED = 8  # of the last days, each with the engagements of the day after
TOP = 20
IN_SPACE, OWN, FITTED = "in the space", "own axes", "fitted so short"


def prefix_rows(
    stream: Stream, days: list[Day], aligned: list[Sides], window: int, seed: int
) -> list[Row]:
    """NDCG of the next day's engagements by the first columns of the last days' vectors.

    In the coordinates of the space (aligned: of each day), on the day's own canonical axes, and of
    a fit with so few dimensions.
    """
    tested = [place for place, day in enumerate(days) if next_day(stream, day).nnz]
    rows: list[Row] = []
    for columns in COLUMNS if tested else ():
        scores: dict[str, list[np.ndarray]] = {IN_SPACE: [], OWN: [], FITTED: []}
        for place in tested[-TESTED:]:
            day = days[place]
            own = canonical_axes(*(day.sides[side].vectors for side in SIDES))
            short = factors(stream, day.number, window, SVD(columns, 1.0), seed + day.number)
            scores[IN_SPACE].append(ndcg(stream, day, aligned[place], np.eye(len(own), columns)))
            scores[OWN].append(ndcg(stream, day, day.sides, own[:, :columns]))
            if short is not None:
                scores[FITTED].append(ndcg(stream, day, short, np.eye(columns)))
        found = {way: np.concatenate(values) for way, values in scores.items() if values}
        row: Row = {"columns": columns, "days rotated": len(days)}
        for way, estimate in mean_estimates(found, seed).items():
            row |= estimate.fields(way)
        rows.append(row)
    return rows


def next_day(stream: Stream, day: Day) -> sp.csr_matrix:
    """The engagements of the day after, of those who have vectors on this one."""
    if day.number + 1 >= len(stream.days):
        return sp.csr_matrix((0, 0))
    rows, columns = (day.sides[side].ids.astype(np.int64) for side in SIDES)
    return stream.days[day.number + 1][rows][:, columns]


def ndcg(stream: Stream, day: Day, sides: Sides, axes: np.ndarray) -> np.ndarray:
    """NDCG@TOP of every consumer who engaged on the day after. axes: (k, columns)."""
    relevant = next_day(stream, Day(day.number, sides))
    consumers = sides["consumer"].vectors @ axes
    # As an SVD expects a strength: the product times the root of the producer's sum.
    producers = sides["producer"].vectors @ axes * sides["producer"].weights[:, None]
    nothing = sp.csr_matrix(relevant.shape)
    active = np.flatnonzero(np.diff(relevant.indptr))
    return rank(consumers[active], producers, nothing[active], relevant[active]).ndcg(TOP)
