"""Frappe: which apps people use in which context, with the published split and recipe.

    frappe/derived/frappe.train.positives.libfm.gz   of the 202,027 published rows to train on
    frappe/frappe.validation.libfm.gz, frappe/frappe.test.libfm.gz

Baltrunas et al. 2015, arXiv:1505.03014; the split is that of Neural Factorization Machines (He and
Chua 2017), "Frappe_x1" in BARS. Its terms forbid redistribution: Evergreen ships without it. The
published negatives to train on could not be had. They are drawn again, two for each positive, by
the rule that all negatives of the two other files follow: user and context stay, and the app is one
that the user never used. Figures are therefore close to published ones, but not comparable to the
last digit.

All kinds are trained by FuxiCTR's recipe (`jobs.reports.recipe`).
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from jobs.reports.recipe import RecipeTrial, day_of
from models.features import Categorical, Day, FeatureSpec

POSITIVES = Path("frappe/derived/frappe.train.positives.libfm.gz")
VALIDATION = Path("frappe/frappe.validation.libfm.gz")
TEST = Path("frappe/frappe.test.libfm.gz")
FIELDS = {  # distinct values; the files number the values of all fields in this order
    "user": 957,
    "item": 4082,
    "daytime": 7,
    "weekday": 7,
    "isweekend": 2,
    "homework": 3,
    "cost": 2,
    "weather": 9,
    "country": 80,
    "city": 233,
}
USER, ITEM = 0, 1  # columns
SPEC = FeatureSpec(
    categorical=tuple(Categorical(f"hash_{name}", size, name) for name, size in FIELDS.items()),
    numeric=(),
    labels=("label_used",),
    vector_dim=0,
)
NEGATIVES = 2  # per positive
# It is made for numbers and published vectors, of which there are none.
LEFT_OUT = ("heavy_ranker",)


class Frappe(RecipeTrial):
    """The trial; see above. Every seed draws its own negatives."""

    data = "frappe"
    files = (POSITIVES, VALIDATION, TEST)
    spec = SPEC

    def read(self, folder: Path) -> tuple[Day, Day]:
        self.positives, _ = read_libfm(folder / POSITIVES)
        self.kept = len(self.positives)
        validation = day_of("validation", *read_libfm(folder / VALIDATION))
        return validation, day_of("test", *read_libfm(folder / TEST))

    def keep(self, rows: int) -> None:
        self.kept = max(1, rows // (1 + NEGATIVES))

    def training_rows(self, rng: np.random.Generator) -> Day:
        return day_of("train", *with_negatives(self.positives[: self.kept], self.used(), rng))

    def used(self) -> np.ndarray:
        """The pairs of a user and an app that occur in any file, one number each."""
        parts = [self.positives]
        for rows in (self.validation, self.tested):
            parts.append(rows.categories[rows.labels[:, 0] > 0])
        return np.unique(pairs(np.concatenate(parts)))


def read_libfm(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bucket numbers by field, (n, 10) int64, and labels, (n,) float32, of lines `±1 i:1 j:1 …`."""
    text = gzip.decompress(file.read_bytes()).decode()
    # Every value is 1, and only a value follows a colon.
    numbers = np.array(text.replace(":1", "").split(), dtype=np.int64)
    table = numbers.reshape(-1, 1 + len(FIELDS))
    sizes = np.array(list(FIELDS.values()))
    offsets = np.cumsum(sizes) - sizes
    return table[:, 1:] - offsets, (table[:, 0] > 0).astype(np.float32)


def with_negatives(
    positives: np.ndarray, used: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The positives and NEGATIVES others for each: the app is one that the user never used.

    used: numbers of pairs, sorted. Returns categories, (n, 10), and labels, (n,).
    """
    negatives = np.repeat(positives, NEGATIVES, axis=0)
    open_rows = np.arange(len(negatives))
    while len(open_rows):
        negatives[open_rows, ITEM] = rng.integers(0, FIELDS["item"], len(open_rows))
        open_rows = open_rows[np.isin(pairs(negatives[open_rows]), used)]
    labels = np.zeros(len(positives) + len(negatives), dtype=np.float32)
    labels[: len(positives)] = 1
    return np.concatenate([positives, negatives]), labels


def pairs(categories: np.ndarray) -> np.ndarray:
    """One number for the user and the app of each row, (n,)."""
    return categories[:, USER] * FIELDS["item"] + categories[:, ITEM]
