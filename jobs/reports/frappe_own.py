"""Frappe by recipes of our own, on the files and the split of `jobs.reports.frappe`.

`FrappeRedrawn` reads the same fields. Every epoch learns from negatives of its own, whose app is
one that the user has in no positive to train on. The files to validate and to test on are not
asked: among thousands of negatives of a user, the apps that never occur would give the tested
positives away.

`FrappeCounts` reads one more field: how many of the other positives to train on have the user and
the app of the row. A positive does not count itself, because no row to validate or to test on is
among those counted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from jobs.reports.frappe import SPEC, Frappe, pairs
from jobs.reports.recipe import Recipe
from models.features import Categorical, Day

# Selected on the validation rows, for MaskNet on the published fields.
OWN = Recipe(
    {"field_width": 16, "hidden": (400, 400), "dropout": 0.3, "block_width": 100},
    patience=3,
    decay=0.5,
    epochs=40,
    share=0.005,
    redrawn=True,
    calibrated=True,
)
BUCKETS = 8  # of the counts


class FrappeRedrawn(Frappe):
    """The fields as published, and negatives of every epoch; see above."""

    data = "frappe-redrawn"
    recipe = OWN

    def used(self) -> np.ndarray:
        """The pairs of a user and an app of the positives to train on, one number each."""
        return np.unique(pairs(self.positives))


class FrappeCounts(FrappeRedrawn):
    """With the count of past uses besides; see above."""

    data = "frappe-counts"
    spec = replace(SPEC, categorical=(*SPEC.categorical, Categorical("hash_uses", BUCKETS, "uses")))

    def read(self, folder: Path) -> tuple[Day, Day]:
        validation, tested = super().read(folder)
        self.counts = np.bincount(pairs(self.positives))
        return self.counted(validation), self.counted(tested)

    def training_rows(self, rng: np.random.Generator) -> Day:
        rows = super().training_rows(rng)
        return self.counted(rows, own=rows.labels[:, 0].astype(np.int64))

    def counted(self, rows: Day, own: int | np.ndarray = 0) -> Day:
        """The rows with the further field. own: how often a row is among those counted."""
        numbers = pairs(rows.categories)
        uses = np.append(self.counts, 0)[np.minimum(numbers, len(self.counts))]
        return replace(rows, categories=np.column_stack([rows.categories, bucket(uses - own)]))


def bucket(counts: np.ndarray) -> np.ndarray:
    """⌈log₂(c + 1)⌉ of every count c, BUCKETS - 1 at most: (n,) int64."""
    return np.minimum(np.ceil(np.log2(counts + 1)), BUCKETS - 1).astype(np.int64)
