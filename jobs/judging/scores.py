"""What a day says of a model's scores, label by label.

Labels have nothing to do with each other: they are judged in threads. NumPy and torch let other
threads run while they compute. Of the rows of a label, a piece is in memory at a time; the others
are in columns of a scratch.

Shapes: n rows, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jobs.judging.calibration import Consumers
from models.calibration import Bins, Platt, fit
from models.ordering import in_order
from models.scratch import Field, Rows, Scratch, pieces

METRICS = ("log_loss", "rce", "auc", "ece")  # of all consumers, that are facts of the day
# A row of one label, as models.device_metrics reads it; 8 bytes, of which the last is not used.
ROW = np.dtype(
    {
        "names": ["score", "happened", "bucket", "second_half"],
        "formats": ["f4", "?", "u1", "?"],
        "itemsize": 8,
    }
)


@dataclass(frozen=True)
class Judgement:
    """Of one label.

    metrics: by name, without the undefined ones. rows: those of `models.device_metrics`.
    calibration: of the day, None where the label has too few positives or negatives.
    """

    label: str
    metrics: dict[str, float]
    rows: list[dict[str, Any]]
    calibration: Platt | None


@dataclass(frozen=True)
class LabelRows:
    """All that is known of the rows of one label: an array of ROW, put together where it is read.

    happened: (n,) bool. scores: (n,) float32.
    """

    consumers: Consumers
    happened: Rows
    scores: Rows

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: slice) -> np.ndarray:
        scores = self.scores[rows]
        found = np.empty(len(scores), ROW)
        found["score"] = scores
        found["happened"] = self.happened[rows]
        found["bucket"] = self.consumers.users.buckets[rows]
        found["second_half"] = self.consumers.second_half[rows]
        return found


def judge(
    consumers: Consumers,
    names: tuple[str, ...],
    labels: Sequence[Rows],
    scores: Sequence[Rows],
    scratch: Scratch,
    threads: int,
) -> list[Judgement]:
    """Every label, in order; the same whatever the threads.

    names: (L,). labels: L of (n,) bool. scores: L of (n,) float32.
    """
    from models.training import one_thread_each, reproducible

    with (
        threadpool_limits(1, "blas"),  # or the last bits would depend on the number of threads
        reproducible(seed=0, threads=1),  # and so they would on torch's
        one_thread_each(threads) as pool,
    ):
        return list(pool.map(partial(judge_label, consumers, scratch), names, labels, scores))


def judge_label(
    consumers: Consumers, scratch: Scratch, name: str, happened: Rows, scores: Rows
) -> Judgement:
    """One label. happened: (n,) bool. scores: (n,) float32."""
    from models.device_metrics import Figures

    rows = LabelRows(consumers, happened, scores)
    with scratch.further() as own:
        figures = Figures(rows, consumers.users, own)
        for piece in in_order(rows, "score", own):
            figures.add(piece)
    with scratch.further() as own:
        calibrated = calibrated_ece(rows, own)
    metrics = {"calibrated_ece": calibrated}
    metrics |= {key: found for key, found in figures.all.metrics().items() if key in METRICS}
    defined = {key: value for key, value in metrics.items() if not np.isnan(value)}
    return Judgement(name, defined, list(figures.rows(name)), fit(happened, scores))


def calibrated_ece(rows: LabelRows, scratch: Scratch) -> float:
    """The ECE of each half of the consumers with the calibration of the other half.

    On its own rows, a fit is always better than none. NaN where a half has too few positives or
    negatives for one.
    """
    halves = [scratch.column(ROW), scratch.column(ROW)]
    for piece in pieces(rows, scratch.piece):
        for number, half in enumerate(halves):
            half.append(piece[piece["second_half"] == number])
    calibrated = scratch.column(ROW)
    for fitted, applied in (halves, halves[::-1]):
        calibration = fit(Field(fitted, "happened"), Field(fitted, "score"))
        if calibration is None:
            return float("nan")
        for piece in pieces(applied, scratch.piece):
            piece["score"] = calibration(piece["score"].copy())
            calibrated.append(piece)
    bins = Bins(len(rows))
    for piece in in_order(calibrated, "score", scratch):
        bins.add(piece["happened"], piece["score"].copy())
    return bins.ece()
