"""A fold-in as files of a folder: one array per file, and `scalars.json`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from embeddings.fold_in import FoldIn, restore


def save_fold_in(folder: Path, model: FoldIn) -> None:
    """Write the model's arrays and scalars below a new folder."""
    folder.mkdir()
    for name, array in model.arrays().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (folder / "scalars.json").write_text(json.dumps(model.scalars(), sort_keys=True) + "\n")


def load_fold_in(folder: Path) -> FoldIn:
    """The model that `save_fold_in` wrote, its arrays memory-mapped."""
    arrays = {}
    for file in folder.glob("*.npy"):
        arrays[file.stem] = np.load(file, mmap_mode="r", allow_pickle=False)
    return restore(arrays, json.loads((folder / "scalars.json").read_text()))
