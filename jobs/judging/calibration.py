"""The consumers of a tested day, and where the calibration of a model that was tested is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.judging.shelves import Shelves
from jobs.lake.store import Partition
from models.calibration import Calibration
from models.scratch import Column, Rows, pieces

if TYPE_CHECKING:
    from models.device_metrics import Users


def calibration_file(role: str) -> str:
    """Where a partition has the calibration of a tested model."""
    return f"calibration_{role}.json"


def calibration_of(test: Partition, role: str) -> Calibration:
    """The calibration of a model that was tested."""
    return Calibration.from_json((test.path / calibration_file(role)).read_text())


@dataclass(frozen=True)
class Consumers:
    """The consumer of every row.

    second_half: (n,) bool, the rows of about half of the consumers, on every day the same.
    """

    users: Users
    second_half: Rows

    @classmethod
    def of(cls, ids: Shelves) -> Consumers:
        from models.device_metrics import Users, buckets_of

        scratch = ids.scratch
        numbers = scratch.column(np.int32)
        on_shelves: list[Column] = scratch.columns(np.uint8, ids.sizes)
        for shelf, buckets in zip(ids, on_shelves, strict=True):
            of_shelf = shelf.dictionary_encode().indices.to_numpy()
            numbers.append(of_shelf)
            buckets.append(buckets_of(of_shelf))
        in_rows, second_half = scratch.column(np.uint8), scratch.column(np.bool_)
        for piece in ids.in_rows(on_shelves):
            in_rows.append(piece)
        for piece in pieces(ids.hashes, scratch.piece):
            second_half.append(piece % 2 == 1)
        return cls(Users(ids.places, ids.sizes, numbers, in_rows), second_half)
