"""The calibration of a model that was tested on a day: where it is kept, and how it is tested."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pyarrow as pa

from jobs.lake.store import Partition
from models.calibration import Calibration, fit


def calibration_file(role: str) -> str:
    """Where a partition has the calibration of a tested model."""
    return f"calibration_{role}.json"


def calibration_of(test: Partition, role: str) -> Calibration:
    """The calibration of a model that was tested."""
    return Calibration.from_json((test.path / calibration_file(role)).read_text())


@dataclass(frozen=True)
class Consumers:
    """The consumer of every row.

    codes: (n,) int32, one for each consumer, from 0. second_half: (n,) bool, the rows of about half
    of the consumers, on every day the same.
    """

    codes: np.ndarray
    second_half: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Consumers:
        """column: (n,) texts."""
        encoded = column.dictionary_encode()
        if not encoded.num_chunks:
            return cls(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=bool))
        # All chunks of one column have one dictionary.
        codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
        ids = encoded.chunk(0).dictionary.to_pylist()
        half = np.array([crc32(one.encode()) % 2 for one in ids], dtype=bool)
        return cls(codes, half[codes])


def calibrated_by_others(
    consumers: Consumers, happened: np.ndarray, scores: np.ndarray
) -> np.ndarray | None:
    """The scores with the calibration that was fitted on the other half of the consumers.

    On its own rows, a fit is always better than none. happened: (n,) bool. scores: (n,). Returns
    (n,) float64, None where a half has too few positives or negatives.
    """
    calibrated = np.empty(len(scores))
    for applied in (~consumers.second_half, consumers.second_half):
        calibration = fit(happened[~applied], scores[~applied])
        if calibration is None:
            return None
        calibrated[applied] = calibration(scores[applied])
    return calibrated
