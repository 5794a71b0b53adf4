"""make bench-ranker: training steps of MaskNet on a CPU against FuxiCTR's, and what bfloat16 costs.

23 categorical fields of width 10 over 1.1 M rows, batches of 4096, 3 parallel blocks of 64 with
reduction ratio 1 (FuxiCTR's default) and 2 (the paper's), hidden layers 400-400-400, Adam. Both
networks have the same number of parameters, but for FuxiCTR's padding row in each of its 23 tables,
and read the same rows. A step is forward, backward and update. Steps of all variants alternate, so
that a busy machine slows all down; the median of their CPU seconds counts, on one thread and two.

AUC: a planted click model on such rows, one pass, several seeds. Test AUC with products in bfloat16
less that in float32, and of updates of the touched rows less those of whole tables.

FuxiCTR is no dependency: perf/fuxictr.py says how FUXICTR names it. Without it, its figures are
left out. SIZE=0.2 measures a fifth of the steps.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from embeddings.benchmarks.auc import auc
from models.features import Categorical, FeatureSpec
from models.rankers.base import Ranker, Statistics, build, read_options
from models.training import Trainer, TrainingConfig
from perf.fuxictr import find_peer, parallel_network
from perf.report import Figure, arguments, finish

BATCH = 4096
WIDTH = 10
BUCKETS = np.geomspace(4, 400_000, 23).astype(int)
SPEC = FeatureSpec(
    categorical=tuple(Categorical(f"hash_{i}", int(n), f"f{i}") for i, n in enumerate(BUCKETS)),
    numeric=(),
    labels=("label_click",),
    vector_dim=0,
)
HIDDEN = (400, 400, 400)
VARIANTS = {
    "float32": TrainingConfig(BATCH, 1e-3),
    "bfloat16": TrainingConfig(BATCH, 1e-3, precision="bfloat16"),
    "bfloat16, compiled": TrainingConfig(BATCH, 1e-3, precision="bfloat16", compiled=True),
}
PEER = "FuxiCTR"
SEEDS = 3  # of the AUCs

Batch = tuple[tuple[Tensor, Tensor, Tensor], Tensor]
Step = Callable[[Batch], object]


def main() -> int:
    options = arguments(__doc__, size="1")
    size = float(options.size)
    peer = find_peer()
    if peer is None:
        print("Left out: FuxiCTR. Set FUXICTR as the first lines of perf/fuxictr.py describe.")
    figures = []
    for ratio in (1.0, 2.0):
        for threads in (1, 2):
            seconds_of = measure(ratio, threads, max(4, int(24 * size)), peer, options.seed)
            figures += speed_figures(seconds_of, ratio, threads)
    figures += auc_figures(max(8, int(120 * size)), options.seed)
    return finish("ranker", figures, options.seed)


# Speed


def measure(
    ratio: float, threads: int, steps: int, peer: Any | None, seed: int
) -> dict[str, list[float]]:
    """CPU seconds of every step of every variant."""
    torch.set_num_threads(threads)
    torch.compiler.reset()  # the number of threads is compiled in
    variants: dict[str, Step] = {}
    for name, cfg in VARIANTS.items():
        trainer = Trainer(fresh(ratio, seed), cfg)
        variants[name] = step_of(trainer)
    if peer is not None:
        variants[PEER] = peer_step(peer, ratio)
    batches = clicks(steps + 2, seed, planted=None)
    for batch in batches[:2]:  # compiles, and fills the caches
        for step in variants.values():
            step(batch)
    seconds_of: dict[str, list[float]] = {name: [] for name in variants}
    for batch in track(batches[2:], f"ratio {ratio:g}, {threads} threads"):
        for name, step in variants.items():
            started = time.process_time()
            step(batch)
            seconds_of[name].append(time.process_time() - started)
    return seconds_of


def step_of(trainer: Trainer) -> Step:
    return lambda batch: trainer.step(*batch, rate=1.0)


def speed_figures(seconds_of: dict[str, list[float]], ratio: float, threads: int) -> list[Figure]:
    """Samples per core-second of every variant of ours; the bar is on the fastest."""
    rates = {name: BATCH / median(seconds) for name, seconds in seconds_of.items()}
    peer_rate = rates.pop(PEER, None)
    figures = []
    for name, rate in rates.items():
        has_bar = peer_rate is not None and name == "bfloat16, compiled"
        figures.append(
            Figure(
                f"{name}, ratio {ratio:g}, {threads} threads",
                rate,
                "samples/core-s",
                peer=PEER if peer_rate else "",
                peer_value=peer_rate,
                bar=3.0 if has_bar else None,
                at_most=False,
                bar_on_ratio=True,
            )
        )
    return figures


def fresh(ratio: float, seed: int) -> Ranker:
    torch.manual_seed(seed)
    options = {"field_width": WIDTH, "block_width": 64, "hidden": HIDDEN, "ratio": ratio}
    return build("masknet", SPEC, read_options("masknet", options))


def peer_step(network: Any, ratio: float) -> Step:
    """A training step of FuxiCTR's MaskNet, by its own method."""
    model = parallel_network(
        network,
        SPEC,
        padding=1,
        root=os.devnull,
        embedding_dim=WIDTH,
        dnn_hidden_units=list(HIDDEN),
        parallel_block_dim=64,
        reduction_ratio=ratio,
    )
    model._max_gradient_norm = 10.0  # as its `fit` sets it
    model.train()

    def step(batch: Batch) -> None:
        (categories_BC, _, _), labels_BL = batch
        named = dict(zip([c.name for c in SPEC.categorical], categories_BC.unbind(1), strict=True))
        model.train_step(named | {SPEC.labels[0]: labels_BL})

    return step


# Rows


class Planted:
    """A click model: an effect of every category, and agreements of the vectors of two fields."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.effects = [rng.normal(scale=0.3, size=n) for n in BUCKETS]
        self.vectors = [rng.normal(scale=0.7, size=(n, 4)) for n in BUCKETS]

    def probabilities(self, categories: np.ndarray) -> np.ndarray:
        """(B, C) -> (B,)."""
        logits = np.full(len(categories), -1.0)
        for column, effect in enumerate(self.effects):
            logits += effect[categories[:, column]]
        for first, second in ((8, 10), (9, 12)):
            u = self.vectors[first][categories[:, first]]
            v = self.vectors[second][categories[:, second]]
            logits += (u * v).sum(axis=1)
        return 1 / (1 + np.exp(-logits))


def clicks(count: int, seed: int, planted: Planted | None) -> list[Batch]:
    """Batches of rows; low buckets are popular. Without a planted model, labels are drawn alone."""
    rng = np.random.default_rng([seed, 2])
    batches = []
    for _ in range(count):
        categories = (rng.random((BATCH, len(BUCKETS))) ** 2 * BUCKETS).astype(np.int64)
        rates = np.full(BATCH, 0.3) if planted is None else planted.probabilities(categories)
        labels = (rng.random(BATCH) < rates).astype(np.float32)[:, None]
        inputs = (torch.from_numpy(categories), torch.zeros(BATCH, 0), torch.zeros(BATCH, 2, 0))
        batches.append((inputs, torch.from_numpy(labels)))
    return batches


# AUC


def auc_figures(steps: int, seed: int) -> list[Figure]:
    """Differences of test AUCs, mean over the seeds. A bar of −0.001 is about one seed's noise."""
    torch.set_num_threads(1)
    aucs: dict[str, list[float]] = {"whole tables": [], "float32": [], "bfloat16": []}
    for number in track(range(SEEDS), "AUC"):
        batches = clicks(steps + 24, seed + number, Planted(seed + number))
        for name, values in aucs.items():
            precision = "bfloat16" if name == "bfloat16" else "float32"
            model = fresh(2.0, seed + number)
            if name == "whole tables":
                make_dense(model)
            cfg = TrainingConfig(BATCH, 2e-3, precision=precision)
            values.append(test_auc(model, cfg, batches[:steps], batches[steps:]))
    return [
        Figure("test AUC, float32", mean(aucs["float32"]), ""),
        difference("AUC, bfloat16 less float32", aucs["bfloat16"], aucs["float32"]),
        difference("AUC, touched rows less whole tables", aucs["float32"], aucs["whole tables"]),
    ]


def difference(name: str, ours: list[float], others: list[float]) -> Figure:
    differences = [a - b for a, b in zip(ours, others, strict=True)]
    spread = f"{name}, ±{stdev(differences):.4f} over {SEEDS} seeds"
    return Figure(spread, mean(differences), "", bar=-0.001, at_most=False)


def test_auc(model: Ranker, cfg: TrainingConfig, learn: list[Batch], test: list[Batch]) -> float:
    """AUC on the test rows after one pass at a falling learning rate."""
    labels = torch.cat([labels_BL for _, labels_BL in learn])
    nothing = np.zeros(0)
    odds = torch.logit(labels.mean(dim=0).double()).numpy()
    model.initialise(Statistics(nothing, nothing, nothing, nothing, odds))
    trainer = Trainer(model, cfg)
    for number, batch in enumerate(learn):
        trainer.step(*batch, rate=1 - number / len(learn))
    with torch.inference_mode():
        scores = torch.cat([model(*inputs) for inputs, _ in test])
    expected = torch.cat([labels_BL for _, labels_BL in test])
    return float(auc(expected[:, 0].numpy(), scores[:, 0].numpy()))


def make_dense(model: Ranker) -> None:
    """Gradients of whole tables, as PyTorch has them by default."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False


if __name__ == "__main__":
    sys.exit(main())
