"""What judging a day has in memory does not grow with its rows, nor with its consumers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from jobs.judging.calibration import Consumers
from jobs.judging.resampled import Users, rows_in_order, weighted_aucs
from jobs.judging.scores import judge
from jobs.judging.shelves import Shelves
from models.scratch import Scratch

PIECE = 1 << 13
FEW, MANY = 1 << 16, 1 << 19  # rows


def batches(rows: int) -> Iterator[pa.RecordBatch]:
    """A day piece by piece; every consumer has eight rows on average."""
    for start in range(0, rows, PIECE):
        rng = np.random.default_rng(start)
        scores = rng.random(PIECE).astype(np.float32)
        columns = {"consumer_id": pa.array(rng.integers(0, rows // 8, PIECE)).cast(pa.string())}
        columns["label"] = pa.array((rng.random(PIECE) < scores).astype(np.int8))
        yield pa.record_batch(columns | {"model": scores})


def peak_of(work: Callable[[int], object], rows: int) -> int:
    """The most bytes that Python and NumPy have at a time."""
    tracemalloc.start()
    try:
        work(rows)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def judged(rows: int) -> None:
    with Scratch(piece=PIECE) as scratch:
        happened, scores = scratch.column(np.bool_), scratch.column(np.float32)
        for batch in batches(rows):
            happened.append(batch["label"].to_numpy() > 0)
            scores.append(batch["model"].to_numpy())
        ids = Shelves.of(lambda: (batch["consumer_id"] for batch in batches(rows)), rows, scratch)
        (found,) = judge(Consumers.of(ids), ("label_x",), [happened], [scores], scratch, 1)
        assert found.rows[0]["rows"] == rows


def test_judging_eight_times_the_rows_takes_no_more_memory():
    judged(PIECE)  # what is loaded and compiled once
    few, many = peak_of(judged, FEW), peak_of(judged, MANY)
    assert few > 8 * PIECE  # of a piece, so that the sum is known to see arrays
    assert many - few < (MANY - FEW) / 8  # nothing for a row, but some bytes for each piece


def resampled(rows: int) -> None:
    """What the bootstrap does with rows; a user has some numbers of its own in any case."""
    with Scratch(piece=PIECE) as scratch:
        users = Users.of(lambda: batches(rows), rows, scratch)
        losses = np.zeros(len(users.rows))
        ordered = rows_in_order(lambda: batches(rows), users, "model", losses, scratch)
        weighted_aucs(ordered, np.ones((len(users.rows), 1), np.uint8), scratch.piece)


def test_a_bootstrap_has_a_few_numbers_for_each_user_and_none_for_each_row():
    resampled(PIECE)
    few, many = peak_of(resampled, FEW), peak_of(resampled, MANY)
    assert many - few < 64 * (MANY - FEW) / 8
