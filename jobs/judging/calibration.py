"""The calibration of a model that was tested on a day: where it is kept, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pyarrow as pa

from jobs.lake.store import Partition
from models.calibration import BINS, Calibration, ece, fit


def calibration_file(role: str) -> str:
    """Where a partition has the calibration of a tested model."""
    return f"calibration_{role}.json"


def calibration_of(test: Partition, role: str) -> Calibration:
    """The calibration of a model that was tested."""
    return Calibration.from_json((test.path / calibration_file(role)).read_text())


@dataclass(frozen=True)
class Consumers:
    """The consumer of every row. ids: (U,) distinct; codes: (n,) int64, places in them."""

    ids: pa.Array
    codes: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Consumers:
        """column: (n,) texts."""
        encoded = column.dictionary_encode().unify_dictionaries()
        if not encoded.num_chunks:
            return cls(pa.array([], pa.string()), np.zeros(0, dtype=np.int64))
        codes = [chunk.indices.to_numpy().astype(np.int64) for chunk in encoded.chunks]
        return cls(encoded.chunk(0).dictionary, np.concatenate(codes))


def calibration_errors(
    role: str,
    consumers: Consumers,
    labels: np.ndarray,
    names: tuple[str, ...],
    scores: np.ndarray,
) -> dict[str, float]:
    """<role>_ece_<label>, and <role>_calibrated_ece_<label> where the label can be calibrated.

    labels, scores: (n, L). Rows are calibrated by what was fitted on other consumers: on its own
    rows, a fit is always better than none.
    """
    half = np.array([crc32(one.encode()) % 2 for one in consumers.ids.to_pylist()], dtype=bool)
    second = half[consumers.codes]
    calibrated = scores.astype(np.float64)
    changed = set(names)
    for fitted, applied in ((second, ~second), (~second, second)):
        calibration = fit("", names, labels[fitted], scores[fitted])
        calibrated[applied] = calibration(names, scores[applied])
        changed &= set(calibration.maps)
    errors = {}
    for column, name in enumerate(names):
        plain = name.removeprefix("label_")
        errors[f"{role}_ece_{plain}"] = ece(labels[:, column], scores[:, column], BINS)
        if name in changed:
            error = ece(labels[:, column], calibrated[:, column], BINS)
            errors[f"{role}_calibrated_ece_{plain}"] = error
    return {name: error for name, error in errors.items() if not np.isnan(error)}
