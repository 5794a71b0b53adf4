"""What a day says of a model's scores, label by label.

Labels have nothing to do with each other: they are judged in threads. NumPy and torch let other
threads run while they compute.

Shapes: n rows, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.benchmarks.auc import auc
from jobs.judging.calibration import Consumers, calibrated_by_others
from models.calibration import Platt, ece, fit
from models.metrics import log_loss, relative_to_rate
from models.ordering import ascending


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


def judge(
    consumers: Consumers,
    names: tuple[str, ...],
    labels: np.ndarray,
    scores: np.ndarray,
    threads: int,
) -> list[Judgement]:
    """Every label, in order; the same whatever the threads.

    names: (L,). labels: (n, L) bool. scores: (n, L) float32.
    """
    from models.training import one_thread_each, reproducible

    with (
        threadpool_limits(1, "blas"),  # or the last bits would depend on the number of threads
        reproducible(seed=0, threads=1),  # and so they would on torch's
        one_thread_each(threads) as pool,
    ):
        return list(pool.map(partial(judge_label, consumers), names, labels.T, scores.T))


def judge_label(
    consumers: Consumers, name: str, happened: np.ndarray, scores: np.ndarray
) -> Judgement:
    """One label. happened: (n,) bool. scores: (n,) float32."""
    from models.device_metrics import rows_of_metrics

    happened, scores = np.ascontiguousarray(happened), np.ascontiguousarray(scores)
    rows = list(rows_of_metrics(consumers.codes, happened[:, None], scores[:, None], (name,)))
    calibration = fit(happened, scores)
    loss = log_loss(happened, scores)
    metrics = {"log_loss": loss, "rce": relative_to_rate(happened, loss)}
    order = ascending(scores)
    metrics["calibrated_ece"] = calibrated_ece(consumers, happened, scores, order)
    # Sorted once: sorting what is in order takes next to nothing.
    happened, scores = happened[order], scores[order]
    del order  # as large as all others together
    metrics["auc"] = float(auc(happened, scores))
    metrics["ece"] = ece(happened, scores)
    defined = {key: value for key, value in metrics.items() if not np.isnan(value)}
    return Judgement(name, defined, rows, calibration)


def calibrated_ece(
    consumers: Consumers, happened: np.ndarray, scores: np.ndarray, order: np.ndarray
) -> float:
    """The ECE of each half of the consumers with the calibration of the other half.

    NaN where a half has too few positives or negatives for one. order: (n,), by ascending score.
    """
    calibrated = calibrated_by_others(consumers, happened, scores)
    if calibrated is None:
        return float("nan")
    # A calibration keeps the order of rows, so that each half is in order.
    by_half = order[np.argsort(consumers.second_half[order], kind="stable")]
    return ece(happened[by_half], calibrated[by_half])
