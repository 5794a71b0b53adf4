"""Labels of a tested day: each by itself, in threads, and rows sorted once."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

from embeddings.benchmarks.auc import auc
from jobs.judging.calibration import Consumers
from jobs.judging.scores import Judgement, judge
from models.calibration import ece, fit

NAMES = ("label_click", "label_like", "label_never")
ROWS = 4000


def day() -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray]:
    """Consumers in several chunks, labels and scores; many scores are equal."""
    rng = np.random.default_rng(0)
    ids = [f"c{number}" for number in rng.integers(0, 300, ROWS)]
    scores = rng.random((ROWS, 3)).round(2).astype(np.float32)
    labels = rng.random((ROWS, 3)) < scores * [0.5, 0.2, 0]
    return pa.chunked_array([ids[:1000], ids[1000:1001], ids[1001:]]), labels, scores


def judged(threads: int) -> list[Judgement]:
    column, labels, scores = day()
    return judge(Consumers.of(column), NAMES, labels, scores, threads)


def test_consumers_are_numbered_in_all_chunks_alike():
    column, _, _ = day()
    consumers = Consumers.of(column)
    ids = np.array(column.to_pylist())
    _, expected = np.unique(ids, return_inverse=True)
    assert len(set(zip(consumers.codes, expected, strict=True))) == consumers.codes.max() + 1
    assert consumers.codes.max() == expected.max()
    assert consumers.second_half.tolist() == [crc32(one.encode()) % 2 == 1 for one in ids]
    assert not len(Consumers.of(pa.chunked_array([], pa.string())).codes)


def test_the_figures_are_those_of_the_rows_as_they_come():
    """To the bit, though they are computed of sorted rows."""
    _, labels, scores = day()
    for column, found in enumerate(judged(threads=1)[:2]):
        y, p = labels[:, column], scores[:, column]
        assert found.label == NAMES[column]
        assert found.metrics["auc"] == auc(y, p)
        assert found.metrics["ece"] == ece(y, p)
        assert found.calibration == fit(y, p)
        assert found.rows[0]["auc"] == pytest.approx(found.metrics["auc"])


def test_rows_are_calibrated_by_the_other_half_of_the_consumers():
    column, labels, scores = day()
    second = np.array([crc32(one.encode()) % 2 == 1 for one in column.to_pylist()])
    y, p = labels[:, 0], scores[:, 0]
    expected = np.where(second, fit(y[~second], p[~second])(p), fit(y[second], p[second])(p))
    found = judged(threads=1)[0].metrics
    assert found["calibrated_ece"] == pytest.approx(ece(y, expected))
    assert found["calibrated_ece"] < found["ece"] / 2


def test_a_label_that_never_occurs_has_no_calibration():
    never = judged(threads=1)[2]
    assert never.calibration is None
    assert never.metrics.keys() == {"log_loss", "ece"}


def test_a_day_without_rows_has_no_metrics():
    nobody = Consumers.of(pa.chunked_array([], pa.string()))
    (found,) = judge(nobody, ("label_click",), np.zeros((0, 1), bool), np.zeros((0, 1), "f4"), 2)
    assert found == Judgement("label_click", {}, [], None)


def test_threads_change_nothing():
    assert judged(threads=3) == judged(threads=1)
