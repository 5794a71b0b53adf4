"""Frappe: which apps people use in which context, with the published split and recipe.

    frappe/derived/frappe.train.positives.libfm.gz   of the 202,027 published rows to train on
    frappe/frappe.validation.libfm.gz, frappe/frappe.test.libfm.gz

Baltrunas et al. 2015, arXiv:1505.03014; the split is that of Neural Factorization Machines (He and
Chua 2017), "Frappe_x1" in BARS. Its terms forbid redistribution: Evergreen ships without it. The
published negatives to train on could not be had. They are drawn again, two for each positive, by
the rule that all negatives of the two other files follow: user and context stay, and the app is one
that the user never used. Figures are therefore close to published ones, but not comparable to the
last digit.

The recipe is FuxiCTR's for MaskNet, for all kinds. After every epoch, the AUC on the validation
rows decides: without a gain the learning rate falls to a tenth, and after two such epochs in a row
training ends; the weights of the best epoch are tested. The test rows are read once.
"""

from __future__ import annotations

import copy
import gzip
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.benchmarks.auc import auc
from jobs.pipeline.plan import module
from jobs.reports.trials import Outcome
from jobs.settings import RankerSettings
from models.features import Categorical, Day, FeatureSpec

if TYPE_CHECKING:
    from models.rankers.base import RankerOptions
    from models.training import Trainer, TrainingConfig

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
# The options of a kind that has them.
NETWORK = {"field_width": 10, "hidden": (400, 400, 400), "dropout": 0.1, "block_width": 50}
# It is made for numbers and published vectors, of which there are none.
LEFT_OUT = ("heavy_ranker",)
BATCH, LEARNING_RATE = 4096, 1e-3
L2 = 0.1  # the gradient of an embedding has so much of the embedding itself
PATIENCE, DECAY = 2, 0.1
EPOCHS = 100  # at most


class Frappe:
    """The trial; see above. Every seed draws its own negatives."""

    data = "frappe"
    test = "test"

    def __init__(self, folder: Path, ranker: RankerSettings) -> None:
        self.ranker = ranker
        self.positives, _ = read_libfm(folder / POSITIVES)
        self.validation = read_libfm(folder / VALIDATION)
        self.tested = read_libfm(folder / TEST)
        categories, self.labels = self.tested
        self.users = categories[:, USER]

    def used(self) -> np.ndarray:
        """The pairs of a user and an app that occur in any file, one number each."""
        parts = [self.positives]
        for categories, labels in (self.validation, self.tested):
            parts.append(categories[labels > 0])
        return np.unique(pairs(np.concatenate(parts)))

    def fit(self, kind: str, seed: int) -> Outcome:
        from models.rankers.base import build
        from models.training import predict, reproducible, statistics_of

        # Threads, precision and compilation are the user's, the rest is the recipe's.
        own = module("train").training_config(self.ranker, seed)
        cfg = replace(own, batch_size=BATCH, learning_rate=LEARNING_RATE)
        rng = np.random.default_rng(seed)
        rows = with_negatives(self.positives, self.used(), rng)
        with reproducible(seed, cfg.threads):
            model = build(kind, SPEC, network(kind))
            model.initialise(statistics_of([day_of(*rows)]))
            course = train_with_validation(model, rows, self.validation, cfg, rng)
        scores = predict(model, day_of(*self.tested), space="", threads=cfg.threads)
        parameters = sum(weights.numel() for weights in model.parameters())
        return Outcome(scores[:, 0], course.rows_s, parameters)


def network(kind: str) -> RankerOptions:
    """The recipe's options of a kind, and its defaults for what the recipe does not name."""
    from models.rankers.base import read_options

    known = type(read_options(kind, {})).model_fields
    return read_options(kind, {name: value for name, value in NETWORK.items() if name in known})


# Rows


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


def day_of(categories: np.ndarray, labels: np.ndarray) -> Day:
    """Rows as a ranker reads them: there are neither numbers nor vectors."""
    nothing = np.zeros((0, 0), dtype=np.float32)
    unknown = np.full(len(labels), -1)
    return Day(
        name="frappe",
        space="",
        categories=categories,
        numbers=np.zeros((len(labels), 0), dtype=np.float32),
        labels=labels[:, None],
        consumer_rows=unknown,
        producer_rows=unknown,
        consumer_vectors=nothing,
        producer_vectors=nothing,
    )


# The recipe


@dataclass(frozen=True)
class Course:
    """A training that has ended.

    aucs: on the validation rows after every epoch. rows_s: rows trained on per second of CPU,
    without the time of validation.
    """

    aucs: list[float]
    rows_s: float


def train_with_validation(
    model: Any,
    rows: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    cfg: TrainingConfig,
    rng: np.random.Generator,
) -> Course:
    """Train until the AUC on the validation rows no longer gains; leaves the best weights."""
    from models.training import predict

    categories, labels = rows
    trainer = decaying_trainer(model, cfg)
    aucs: list[float] = []
    best_weights: dict[str, Any] = {}
    rate, failures, seconds = 1.0, 0, 0.0
    while failures < PATIENCE and len(aucs) < EPOCHS:
        order = rng.permutation(len(labels))
        seconds += one_epoch(trainer, day_of(categories[order], labels[order]), rate)
        scores = predict(model, day_of(*validation), space="", threads=cfg.threads)
        value = float(auc(validation[1], scores[:, 0]))
        if value > max(aucs, default=-np.inf):
            best_weights, failures = copy.deepcopy(model.state_dict()), 0
        else:
            rate, failures = rate * DECAY, failures + 1
        aucs.append(value)
    model.load_state_dict(best_weights)
    return Course(aucs, len(aucs) * len(labels) / seconds)


def one_epoch(trainer: Trainer, rows: Day, rate: float) -> float:
    """One pass over the rows. rate: share of the first learning rate. Returns seconds of CPU."""
    from models.training import tensors

    started = time.process_time()
    model: Any = trainer.model
    model.train()  # predictions left it without dropout
    for batch in rows.batches(trainer.cfg.batch_size):
        trainer.step(*tensors(batch), rate)
    return time.process_time() - started


def decaying_trainer(model: Any, cfg: TrainingConfig) -> Trainer:
    """A trainer whose embeddings decay in every step, also those of rows that were not read."""
    import torch

    from models.training import Trainer, device, sparse_tables

    tables = sparse_tables(model)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Embedding):
            layer.sparse = False
    trainer = Trainer(model.to(device()), cfg)
    known = {id(table) for table in tables}
    others = [weights for weights in model.parameters() if id(weights) not in known]
    groups: list[dict[str, Any]] = [{"params": tables, "weight_decay": L2}, {"params": others}]
    trainer.optimizers = [torch.optim.Adam(groups, lr=cfg.learning_rate, fused=True)]
    return trainer
