"""make bench-export: milliseconds to score 1,500 candidates, by the ranker and by its exports.

A MaskNet with its default options and the columns of KuaiRand, with random weights, and one of the
paper's size, 400-400-400. Every call has other rows, and all run on one thread of the CPU, in turn.
p99 is that of CALLS calls. On a machine with other work it is also that of the work: the
milliseconds of CPU beside it are not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models.calibration import UNCALIBRATED
from models.export import FILES, export
from models.features import Batch, Categorical, FeatureSpec
from models.rankers.base import build, read_options
from models.standalone import Scorer
from models.store import Saved
from perf.report import Figure, arguments, finish
from perf.timing import seconds

ROWS = 1500
CALLS = 1000
WARM = 20  # calls before
KIND = "masknet"
SHAPES = {
    "default": {},
    "400-400-400": {"field_width": 10, "block_width": 400, "hidden": (400, 400, 400)},
}


def main() -> int:
    options = arguments(__doc__, size="1")
    calls = max(10, int(CALLS * float(options.size)))
    figures: list[Figure] = []
    torch.set_num_threads(1)
    for shape, raw in SHAPES.items():
        torch.manual_seed(options.seed)
        model = build(KIND, kuairand(), read_options(KIND, raw)).eval()
        with tempfile.TemporaryDirectory() as folder:
            figures += measured(shape, Saved(model, ""), Path(folder), calls, options.seed)
    return finish("export", figures, options.seed)


def kuairand() -> FeatureSpec:
    """As many columns, fields and labels as the examples of KuaiRand have."""
    ids = [Categorical(f"hash_{name}", 16384, name) for name in ("consumer", "producer", "item")]
    others = [Categorical(f"hash_{name}", 256, name) for name in ("hour", "ctx_hour", "ctx_tab")]
    consumer = [Categorical(f"hash_c{n}", 256, "consumer_profile") for n in range(22)]
    item = [Categorical(f"hash_i{n}", 256, "item_profile") for n in range(5)]
    numeric = tuple(f"num_{n}" for n in range(37))
    labels = tuple(f"label_{n}" for n in range(8))
    return FeatureSpec((*ids, *others, *consumer, *item), numeric, labels, 32)


def measured(shape: str, saved: Saved, folder: Path, calls: int, seed: int) -> list[Figure]:
    """Median and p99 of the ranker and of every export."""
    scorers: dict[str, Callable[[Batch], object]] = {"ranker": of_ranker(saved)}
    figures = []
    for form in FILES:
        exported = export(saved, "2024-01-01", "", UNCALIBRATED, form, folder)
        figures.append(Figure(f"{shape}, {form}: difference", exported.difference, "probability"))
        scorers[form] = of_export(Scorer(exported.path))
    took: dict[str, list[float]] = {name: [] for name in scorers}
    used: dict[str, list[float]] = {name: [] for name in scorers}
    rng = np.random.default_rng(seed)
    for call in range(WARM + calls):
        batch = drawn(saved.model.spec, rng)
        for name, score in scorers.items():
            before = time.process_time()
            spent = seconds(lambda score=score, batch=batch: score(batch))
            if call >= WARM:
                took[name].append(1000 * spent)
                used[name].append(1000 * (time.process_time() - before))
    for name, milliseconds in took.items():
        for quantile in (50, 99):
            value = float(np.percentile(milliseconds, quantile))
            figures.append(Figure(f"{shape}, {name}: p{quantile}", value, "ms"))
        cpu = float(np.median(used[name]))
        figures.append(Figure(f"{shape}, {name}: CPU, median", cpu, "ms"))
    return figures


def of_ranker(saved: Saved) -> Callable[[Batch], object]:
    def score(batch: Batch) -> object:
        inputs = (batch.categories, batch.numbers, batch.vectors)
        with torch.inference_mode():
            return torch.sigmoid(saved.model(*map(torch.from_numpy, inputs))).numpy()

    return score


def of_export(scorer: Scorer) -> Callable[[Batch], object]:
    return lambda batch: scorer(batch.categories, batch.numbers, batch.vectors)


def drawn(spec: FeatureSpec, rng: np.random.Generator) -> Batch:
    """The candidates of one consumer: other rows at every call."""
    sizes = [column.buckets for column in spec.categorical]
    return Batch(
        categories=rng.integers(0, sizes, (ROWS, len(sizes))),
        numbers=rng.normal(size=(ROWS, len(spec.numeric))).astype(np.float32),
        vectors=rng.normal(size=(ROWS, 2, spec.vector_dim)).astype(np.float32),
        labels=np.zeros((ROWS, len(spec.labels)), np.float32),
    )


if __name__ == "__main__":
    sys.exit(main())
