"""make bench-frappe: MaskNet on Frappe by FuxiCTR and by Evergreen, on the same rows.

Both learn by the recipe that FuxiCTR publishes (jobs/reports/recipe.py) and from the same
negatives: FuxiCTR by its own `fit`, which selects the epoch on the validation rows as well. Ours
learns twice: from weights drawn as FuxiCTR draws them, and from those of its own. The order of the
rows differs, and products of ours are in bfloat16 where the machine has it.

EVERGREEN_DATA names the folder with frappe/ (see jobs/reports/frappe.py); perf/fuxictr.py says what
FUXICTR is. Both are needed. It takes ten minutes on one core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embeddings.benchmarks.auc import auc
from jobs.reports.frappe import Frappe
from jobs.reports.recipe import FUXICTR as RECIPE
from jobs.settings import RankerSettings
from models.features import Day, FeatureSpec
from models.metrics import log_loss
from models.rankers.layers import Stacked
from models.training import reproducible
from models.transfer import tensors
from perf.fuxictr import find_peer, parallel_network
from perf.report import Figure, arguments, finish

SEED = 2021  # FuxiCTR's
DIFFERENCE = 0.0015  # of test AUCs, at most
PEER = "FuxiCTR"


def main() -> int:
    options = arguments(__doc__)
    seed = options.seed or SEED
    peer = find_peer()
    if peer is None or "EVERGREEN_DATA" not in os.environ:
        print("FUXICTR and EVERGREEN_DATA must be set, see the first lines of perf/frappe.py.")
        return 2
    folder = Path(os.environ["EVERGREEN_DATA"])
    settings = RankerSettings(precision="auto")
    trial = StartedAlike(folder, settings)
    scores, parameters = fit_peer(peer, trial, seed)
    alike = trial.fit("masknet", seed)
    default = Frappe(folder, settings).fit("masknet", seed)
    labels = trial.labels
    theirs = float(auc(labels, scores))
    ours = float(auc(labels, alike.scores))
    figures = [
        Figure("test AUC", ours, "", PEER, theirs),
        Figure("difference of both", abs(ours - theirs), "", bar=DIFFERENCE),
        Figure("test AUC, weights drawn our way", float(auc(labels, default.scores)), ""),
        Figure("log loss", log_loss(labels, alike.scores), "", PEER, log_loss(labels, scores)),
        Figure("log loss, weights drawn our way", log_loss(labels, default.scores), ""),
        Figure("parameters", count(alike.model), "", PEER, parameters),
    ]
    return finish("frappe", figures, seed)


class StartedAlike(Frappe):
    """Weights as FuxiCTR draws them: Xavier's normal, no shifts, embeddings near zero."""

    def start(self, model: Any, rows: Day) -> None:
        for layer in model.modules():
            if isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, std=1e-4)
            elif isinstance(layer, nn.Linear | Stacked):
                # (out, in), or (in, out) of every block: the deviation is the same.
                for weight in layer.weight if layer.weight.ndim == 3 else [layer.weight]:
                    nn.init.xavier_normal_(weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def count(model: Any) -> int:
    """How many weights a network has."""
    return sum(weights.numel() for weights in model.parameters())


def fit_peer(peer: Any, trial: Frappe, seed: int) -> tuple[np.ndarray, int]:
    """The scores of FuxiCTR's network for the test rows, (n,), and how many weights it has."""
    rng = np.random.default_rng(seed)
    rows = NamedBatches(trial.training_rows(rng), trial.spec, rng)
    with TemporaryDirectory() as root, reproducible(seed, threads=1):
        (Path(root) / "evergreen").mkdir()
        model = parallel_network(
            peer,
            trial.spec,
            padding=0,
            root=root,
            embedding_dim=RECIPE.network["field_width"],
            dnn_hidden_units=list(RECIPE.network["hidden"]),
            net_dropout=RECIPE.network["dropout"],
            parallel_block_dim=RECIPE.network["block_width"],
            reduction_ratio=2,
            embedding_regularizer=RECIPE.l2,
            early_stop_patience=RECIPE.patience,
        )
        validation = NamedBatches(trial.validation, trial.spec)
        model.fit(rows, epochs=RECIPE.epochs, validation_data=validation)
        scores = model.predict(NamedBatches(trial.tested, trial.spec))
    return scores, count(model)


class NamedBatches:
    """Rows as FuxiCTR reads them, column by name; with a generator in a new order every time."""

    def __init__(
        self, rows: Day, spec: FeatureSpec, rng: np.random.Generator | None = None
    ) -> None:
        self.rows = rows
        self.spec = spec
        self.rng = rng

    def __len__(self) -> int:
        return -(-len(self.rows) // RECIPE.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rows = self.rows
        if self.rng is not None:
            rows = rows.reordered(self.rng.permutation(len(rows)))
        names = [column.name for column in self.spec.categorical]
        for batch in rows.batches(RECIPE.batch_size):
            (categories_BC, _, _), labels_BL = tensors(batch)
            named = dict(zip(names, torch.unbind(categories_BC, dim=1), strict=True))
            yield named | {self.spec.labels[0]: labels_BL}


if __name__ == "__main__":
    sys.exit(main())
