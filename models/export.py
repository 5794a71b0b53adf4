"""A ranker as one file that other runtimes read: ONNX, or torch.export.

Inputs, with any number of rows B, from one on:

    categories (B, C) int64      bucket numbers
    numbers (B, N) float32       NaN where unknown
    vectors (B, 2, V) float32    of consumer and producer, zeros where unknown

Outputs: `probabilities` as `models.training.predict` gives them, and `calibrated`, (B, L) float32
each. The file carries a card with everything that its reader has to know; beside it are `score.py`,
which needs nothing of ours, and `rows.json`, an example of what it reads.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import standalone
from models.calibration import Calibration
from models.features import FeatureSpec
from models.rankers.base import Ranker, kind_of
from models.store import Saved

FILES = {"onnx": "ranker.onnx", "torch": "ranker.pt2"}  # format -> name of the file
SCORE, ROWS = "score.py", "rows.json"
INPUTS = ("categories", "numbers", "vectors")
CHECKED = 1500  # rows whose probabilities are compared after an export
PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # of the format onnx
TOLERANCE = 1e-5  # between a ranker and its export, in probability


class ExportError(ValueError):
    """A ranker that cannot be exported, or whose export gives other probabilities."""


@dataclass(frozen=True)
class Exported:
    """path: the file. difference: the largest one to the ranker, in probability."""

    path: Path
    difference: float


def export(
    saved: Saved, trained: str, embedding: str, calibration: Calibration, form: str, folder: Path
) -> Exported:
    """Write the model with its card, `score.py` and `rows.json` into a folder, and compare.

    trained: day up to which it was trained. embedding: the version of the newest vectors that it
    was trained on, '' for none. form: a key of FILES. Raises ExportError where a package is missing
    or the probabilities differ by more than TOLERANCE.
    """
    if form == "onnx":
        require_packages()
    card = json.dumps(describe_export(saved, trained, embedding, calibration), sort_keys=True)
    network = Network(saved.model, calibration)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES[form]
    write = write_onnx if form == "onnx" else write_torch
    with quiet():
        write(network, card, path)
    shutil.copyfile(standalone.__file__, folder / SCORE)
    (folder / ROWS).write_text(json.dumps(example_rows(saved.model.spec), indent=1) + "\n")
    difference = worst_difference(network, path)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{path} gives probabilities that differ by {difference:.2g} from those of the ranker; "
            f"at most {TOLERANCE} was expected. Do not use it: export it in the other format."
        )
    return Exported(path, difference)


class Network(nn.Module):
    """Probabilities, raw and calibrated, of a ranker: (B, C), (B, N), (B, 2, V) -> two (B, L)."""

    scale_L: Tensor
    shift_L: Tensor

    def __init__(self, model: Ranker, calibration: Calibration) -> None:
        super().__init__()
        assert isinstance(model, nn.Module)
        self.model = model.eval()
        maps = [calibration.map(label) for label in model.spec.labels]
        self.register_buffer("scale_L", torch.tensor([found.scale for found in maps]))
        self.register_buffer("shift_L", torch.tensor([found.shift for found in maps]))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = False  # concerns gradients alone, and no exporter knows it

    def forward(
        self, categories: Tensor, numbers: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits_BL = self.model(categories, numbers, vectors)
        calibrated_BL = self.scale_L * logits_BL + self.shift_L
        return torch.sigmoid(logits_BL), torch.sigmoid(calibrated_BL)


def describe_export(
    saved: Saved, trained: str, embedding: str, calibration: Calibration
) -> dict[str, Any]:
    """What an export says of itself, as JSON values."""
    return {
        "kind": kind_of(saved.model),
        "trained": trained,
        "space": saved.space,
        "embedding": embedding,
        "spec": saved.model.spec.as_dict(),
        "calibration": json.loads(calibration.to_json()),
    }


def traced(network: Network) -> dict[str, Any]:
    """The arguments with which both exporters follow a network, for any number of rows."""
    rows = {0: torch.export.Dim("rows", min=1)}
    # Two rows: with one, the exporter would take their number for a constant.
    example = tuple(map(torch.from_numpy, random_inputs(network.model.spec, 2)))
    return {"args": example, "dynamic_shapes": dict.fromkeys(INPUTS, rows)}


def write_torch(network: Network, card: str, path: Path) -> None:
    """Write a network as torch.export has it, with the card beside the graph."""
    program = torch.export.export(network, **traced(network))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # has the paths of this machine
    torch.export.save(program, path, extra_files={f"{standalone.CARD}.json": card})


def write_onnx(network: Network, card: str, path: Path) -> None:
    """Write a network as ONNX, with the card in its metadata."""
    program = torch.onnx.export(
        network,
        **traced(network),
        input_names=list(INPUTS),
        output_names=["probabilities", "calibrated"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "without a path, the program is returned"
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # has the paths of this machine
    program.model.metadata_props[standalone.CARD] = card
    program.save(path)


def require_packages() -> None:
    """Raise ExportError where ONNX cannot be written or read."""
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    if lacking:
        raise ExportError(
            f"ONNX needs packages that are not installed: {', '.join(lacking)}. Run: pip install "
            "'evergreen[export]', or choose the format torch."
        )


def worst_difference(network: Network, path: Path) -> float:
    """Between the outputs of a network and of its export, over batches of 1, 7 and CHECKED rows."""
    scorer = standalone.Scorer(path)
    worst = 0.0
    for rows in (1, 7, CHECKED):
        inputs = random_inputs(network.model.spec, rows)
        with torch.inference_mode():
            expected = network(*map(torch.from_numpy, inputs))
        for ours, theirs in zip(expected, scorer(*inputs), strict=True):
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()))
    return worst


def random_inputs(spec: FeatureSpec, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Any buckets; numbers and vectors of which some are unknown. The same ones each time."""
    rng = np.random.default_rng(0)
    buckets = np.array([column.buckets for column in spec.categorical])
    categories = rng.integers(0, buckets, (rows, len(buckets)))
    numbers = (rng.normal(size=(rows, len(spec.numeric))) * 3).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    vectors = rng.normal(size=(rows, 2, spec.vector_dim)).astype(np.float32)
    vectors[rng.random((rows, 2)) < 0.3] = 0
    return categories, numbers, vectors


def example_rows(spec: FeatureSpec) -> list[dict[str, Any]]:
    """Two rows as `score.py` reads them: one with every value, one of which nothing is known."""
    row: dict[str, Any] = {}
    for column in spec.categorical:
        row[column.name.removeprefix("hash_")] = "1"
    row |= dict.fromkeys(spec.numeric, 0.5)
    if spec.vector_dim:
        row |= {name: [0.1] * spec.vector_dim for name in standalone.VECTORS}
    return [row, {}]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say of themselves and of packages that no ranker needs."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
