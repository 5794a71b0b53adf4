"""Rankers of any kind on rows that are split in three: trained, selected and tested by a recipe.

After every epoch, the AUC on the validation rows decides: without a gain the learning rate falls,
and after several such epochs in a row training ends; the weights of the best epoch are tested. The
test rows are read once.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.benchmarks.auc import auc
from jobs.pipeline.plan import module
from jobs.reports.trials import Outcome
from jobs.settings import RankerSettings
from models.calibration import fit_platt
from models.features import Day, FeatureSpec

if TYPE_CHECKING:
    from models.rankers.base import Ranker, RankerOptions
    from models.training import Trainer, TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """How the rankers of a trial learn. network: options, for the kinds that have them."""

    network: Mapping[str, Any]
    batch_size: int = 4096  # rows per step
    learning_rate: float = 1e-3  # of Adam, at first
    l2: float = 0.1  # the gradient of an embedding has so much of the embedding itself
    patience: int = 2  # epochs in a row without a gain that end training
    decay: float = 0.1  # what the learning rate is multiplied with after each of them
    epochs: int = 100  # at most
    share: float = 1.0  # of a step's weights in the running average, which is what is tested
    redrawn: bool = False  # whether every epoch learns from training rows of its own
    calibrated: bool = False  # whether Platt's map is fitted on the validation rows


# FuxiCTR's for MaskNet on Frappe.
FUXICTR = Recipe({"field_width": 10, "hidden": (400, 400, 400), "dropout": 0.1, "block_width": 50})


class RecipeTrial(ABC):
    """A trial whose rankers learn by a recipe. Of a row they read categories alone."""

    data: str
    recipe = FUXICTR
    files: tuple[Path, ...]  # below the folder of public data sets
    test = "test"
    label = 0  # the only one
    spec: FeatureSpec

    def __init__(self, folder: Path, ranker: RankerSettings) -> None:
        self.ranker = ranker
        validation, tested = self.read(folder)
        self.validation = validation
        self.tested = tested
        self.labels = tested.labels[:, 0]
        self.users = tested.categories[:, 0]  # the first column of every data set

    @abstractmethod
    def read(self, folder: Path) -> tuple[Day, Day]:
        """Keep the rows to train on; return those to validate and to test on."""

    @abstractmethod
    def training_rows(self, rng: np.random.Generator) -> Day:
        """The rows to train on, in any order. rng: of the seed."""

    @abstractmethod
    def keep(self, rows: int) -> None:
        """Train on no more than so many rows."""

    def tested_rows(self) -> Day:
        return self.tested

    def options(self, kind: str) -> RankerOptions:
        """The recipe's options of a kind, and its defaults for what the recipe does not name."""
        from models.rankers.base import read_options

        known = type(read_options(kind, {})).model_fields
        named = {name: value for name, value in self.recipe.network.items() if name in known}
        return read_options(kind, named)

    def fit(self, kind: str, seed: int, options: RankerOptions | None = None) -> Outcome:
        from models.rankers.base import build
        from models.training import reproducible

        # Threads, precision and compilation are the user's, the rest is the recipe's.
        own = module("train").training_config(self.ranker, seed)
        cfg = replace(
            own,
            batch_size=self.recipe.batch_size,
            learning_rate=self.recipe.learning_rate,
            negatives_kept=1.0,
        )
        epochs = self.epochs(np.random.default_rng(seed))
        with reproducible(seed, cfg.threads):
            model = build(kind, self.spec, options or self.options(kind))
            rows = next(epochs)
            self.start(model, rows)
            course = train_with_validation(
                model, chain([rows], epochs), self.validation, cfg, self.recipe
            )
        scores = self.scores(model, self.tested)
        if self.recipe.calibrated:
            validation = self.scores(model, self.validation)
            scores = fit_platt(self.validation.labels[:, 0], validation)(scores)
        return Outcome(scores, course.rows_s, model)

    def start(self, model: Ranker, rows: Day) -> None:
        """What a fresh network is given before training. rows: to train on."""
        from models.row_statistics import statistics_of

        model.initialise(statistics_of([rows]))

    def scores(self, model: Ranker, rows: Day) -> np.ndarray:
        """(n,)"""
        from models.training import predict

        return predict(model, rows, space="", threads=self.ranker.threads)[:, 0]

    def epochs(self, rng: np.random.Generator) -> Iterator[Day]:
        """The rows to train on in the order of every epoch, without an end. rng: of the seed."""
        rows = self.training_rows(rng)
        while True:
            yield rows.reordered(rng.permutation(len(rows)))
            if self.recipe.redrawn:
                rows = self.training_rows(rng)


def day_of(name: str, categories: np.ndarray, labels: np.ndarray) -> Day:
    """Rows as a ranker reads them, without numbers and vectors.

    categories: (n, C) int64; labels: (n,) float32.
    """
    nothing = np.zeros((0, 0), dtype=np.float32)
    unknown = np.full(len(labels), -1)
    return Day(
        name=name,
        space="",
        categories=categories,
        numbers=np.zeros((len(labels), 0), dtype=np.float32),
        labels=labels[:, None],
        consumer_rows=unknown,
        producer_rows=unknown,
        consumer_vectors=nothing,
        producer_vectors=nothing,
    )


@dataclass(frozen=True)
class Course:
    """A training that has ended.

    aucs: on the validation rows after every epoch. rows_s: rows trained on per second of CPU,
    without the time of validation.
    """

    aucs: list[float]
    rows_s: float


def train_with_validation(
    model: Any, epochs: Iterable[Day], validation: Day, cfg: TrainingConfig, recipe: Recipe
) -> Course:
    """Train until the AUC on the validation rows no longer gains; leaves the best weights.

    epochs: the rows of each, at least `recipe.epochs` of them.
    """
    from models.training import predict

    trainer = decaying_trainer(model, cfg, recipe.l2)
    average = copy.deepcopy(model)
    aucs: list[float] = []
    best_weights: dict[str, Any] = {}
    rate, failures, seconds, learned = 1.0, 0, 0.0, 0
    for rows in islice(epochs, recipe.epochs):
        seconds += one_epoch(trainer, rows, rate, average, recipe.share)
        learned += len(rows)
        scores = predict(average, validation, space="", threads=cfg.threads)
        value = float(auc(validation.labels[:, 0], scores[:, 0]))
        if value > max(aucs, default=-np.inf):
            best_weights, failures = copy.deepcopy(average.state_dict()), 0
        else:
            rate, failures = rate * recipe.decay, failures + 1
        aucs.append(value)
        if failures == recipe.patience:
            break
    model.load_state_dict(best_weights)
    return Course(aucs, learned / seconds)


def one_epoch(trainer: Trainer, rows: Day, rate: float, average: Any, share: float) -> float:
    """One pass over the rows. rate: share of the first learning rate. Returns seconds of CPU.

    average: a model of the same shape, whose weights follow in every step. share: as of a recipe.
    """
    from models.transfer import on_device

    started = time.process_time()
    model: Any = trainer.model
    model.train()  # predictions left it without dropout
    for inputs, labels_BL in on_device(rows.batches(trainer.cfg.batch_size)):
        trainer.step(inputs, labels_BL, rate)
        follow(average, model, share)
    return time.process_time() - started


def follow(average: Any, model: Any, share: float) -> None:
    """Move the weights of the average, and the averages of its batch norms, towards the model."""
    import torch

    with torch.no_grad():
        for mine, current in zip(
            average.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():  # and no count of steps
                mine.lerp_(current, share)


def decaying_trainer(model: Any, cfg: TrainingConfig, l2: float) -> Trainer:
    """A trainer whose embeddings decay in every step, also those of rows that were not read.

    l2: as of a recipe.
    """
    import torch

    from models.training import Trainer, sparse_tables
    from models.transfer import device

    tables = sparse_tables(model)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Embedding):
            layer.sparse = False
    trainer = Trainer(model.to(device()), cfg)
    known = {id(table) for table in tables}
    others = [weights for weights in model.parameters() if id(weights) not in known]
    groups: list[dict[str, Any]] = [{"params": tables, "weight_decay": l2}, {"params": others}]
    trainer.optimizers = [torch.optim.Adam(groups, lr=cfg.learning_rate, fused=True)]
    return trainer
