"""Labels of a tested day: each by itself, in threads, and rows sorted once."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

from embeddings.benchmarks.auc import auc
from jobs.judging.calibration import Consumers
from jobs.judging.scores import Judgement, judge
from jobs.judging.shelves import Shelves
from models.calibration import ece, fit
from models.device_metrics import BUCKETS
from models.scratch import PIECE, Scratch

NAMES = ("label_click", "label_like", "label_never")
ROWS = 4000


def day() -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray]:
    """Consumers in several chunks, labels and scores; many scores are equal."""
    rng = np.random.default_rng(0)
    ids = [f"c{number}" for number in rng.integers(0, 300, ROWS)]
    scores = rng.random((ROWS, 3)).round(2).astype(np.float32)
    labels = rng.random((ROWS, 3)) < scores * [0.5, 0.2, 0]
    return pa.chunked_array([ids[:1000], ids[1000:1001], ids[1001:]]), labels, scores


def shelves(column: pa.ChunkedArray, scratch: Scratch) -> Shelves:
    return Shelves.of(lambda: column.chunks, len(column), scratch)


def judged(threads: int, piece: int = PIECE) -> list[Judgement]:
    column, labels, scores = day()
    with Scratch(piece=piece) as scratch:
        consumers = Consumers.of(shelves(column, scratch))
        return judge(consumers, NAMES, labels.T, scores.T, scratch, threads)


@pytest.mark.parametrize("piece", [PIECE, 64])
def test_consumers_are_numbered_in_all_chunks_alike(piece):
    """On one shelf, or on sixty: one number each, and all rows of one on the same shelf."""
    column, _, _ = day()
    ids = np.array(column.to_pylist())
    with Scratch(piece=piece) as scratch:
        consumers = Consumers.of(shelves(column, scratch))
        places = consumers.users.shelves[:]
        numbers = np.empty(len(ids), np.int32)
        numbers[np.argsort(places, kind="stable")] = consumers.users.numbers[:]
        buckets, second_half = consumers.users.buckets[:], consumers.second_half[:]
    _, expected, rows = np.unique(ids, return_inverse=True, return_counts=True)
    assert len(set(zip(places, numbers, expected, strict=True))) == len(rows)
    assert len(set(zip(places, numbers, strict=True))) == len(rows)
    for shelf in np.unique(places):
        assert set(numbers[places == shelf]) == set(range(numbers[places == shelf].max() + 1))
    lowest = np.array([least for least, _ in BUCKETS])
    assert buckets.tolist() == [np.flatnonzero(lowest <= n)[-1] for n in rows[expected]]
    assert second_half.tolist() == [crc32(one.encode()) % 2 == 1 for one in ids]


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


@pytest.mark.parametrize("piece", [2000, 100, 7])
def test_figures_are_the_same_whatever_is_in_memory(piece):
    """Whole numbers to the bit: of 4000 rows with 101 scores, some of which fill several pieces."""
    for whole, in_pieces in zip(judged(threads=1), judged(threads=2, piece=piece), strict=True):
        assert in_pieces.calibration == whole.calibration
        assert in_pieces.metrics == pytest.approx(whole.metrics, rel=1e-12)
        assert in_pieces.metrics.get("auc") == whole.metrics.get("auc")
        for found, expected in zip(in_pieces.rows, whole.rows, strict=True):
            assert found.pop("users") == expected.pop("users")
            assert found.pop("label") == expected.pop("label")
            assert found.get("auc") == expected.get("auc")
            assert found == pytest.approx(expected, rel=1e-12)


def test_a_day_without_rows_has_no_metrics():
    with Scratch() as scratch:
        nobody = Consumers.of(shelves(pa.chunked_array([], pa.string()), scratch))
        none = [np.zeros(0, bool)], [np.zeros(0, np.float32)]
        (found,) = judge(nobody, ("label_click",), *none, scratch, 2)
    assert found == Judgement("label_click", {}, [], None)


def test_threads_change_nothing():
    assert judged(threads=3) == judged(threads=1)
