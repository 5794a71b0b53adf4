"""The interface of a fold-in, which computes vectors for histories that were not in the fit.

The nightly batch and a single online request run the same `fold`. A kind of fold-in is one file in
this folder: kind "svd" is svd.py, and its class is the module's `FOLD_IN`. A kind is imported at
its first use, so a service that only reads vectors loads no compiler (numba).
"""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sp

import embeddings.fold_in as folder


class FoldIn(Protocol):
    """Computes vectors for new histories, in the coordinates of the version's own vectors.

    A kind that also reads features of a consumer has a `vocabulary`, an
    `embeddings.features.Vocabulary`, and its `fold` takes rows of it as a second argument. A kind
    whose arrays have other lengths than the numbers of producers and dimensions has the set of them
    as `lengths`.
    """

    def fold(self, x: sp.csr_matrix) -> np.ndarray:
        """x: (n, m) raw strengths > 0. Returns (n, k) float32, zeros for an empty row.

        Raises ValueError if x has a different number of producers or, for ALS, a strength <= 0.
        """
        ...

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> float | None:
        """How much of one history its vector does not explain, relative to the history's length.

        The norm of what is left of the fit's targets over the norm of the targets, both over the
        producers of the history alone. 0 if the vector explains all; None where this kind of
        fold-in has no targets.

        x: (1, m), the history. vector: (d,), its vector, or the first d numbers of it. producers:
        (nnz, d), as many of the version's vectors of the producers in x.indices.
        """
        ...

    def rotated(self, rotation: np.ndarray) -> FoldIn:
        """The fold-in in other coordinates: `fold` then returns its vectors times `rotation`.

        rotation: (k, k), orthogonal.
        """
        ...

    def in_order(self, order: np.ndarray) -> FoldIn:
        """The fold-in with producer order[j] in column j. order: (m,), a permutation."""
        ...

    @property
    def n_producers(self) -> int:
        """m, the number of columns of a history."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to store, by name; `restore` takes them."""
        ...

    def scalars(self) -> dict[str, str | float]:
        """The rest of the state, ready for JSON; "kind" names the file in this folder."""
        ...


def require_producers(x: sp.csr_matrix, known: int) -> None:
    """Raise ValueError unless the histories have as many columns as a fold-in has producers."""
    if x.shape[1] != known:
        raise ValueError(
            f"Strengths of {x.shape[1]} producers, a fold-in of {known}: "
            "both must come from one version."
        )


def relative_residual(target: np.ndarray, reached: np.ndarray, weights: np.ndarray) -> float:
    """√(Σ w (target − reached)² / Σ w target²), 0 without a target. All (n,), weights >= 0."""
    # Divided first: a square of a large weight could overflow.
    share = weights / max(weights.max(initial=0.0), np.finfo(np.float64).tiny)
    length = float(np.sum(share * target**2))
    left = float(np.sum(share * (target - reached) ** 2))
    return math.sqrt(left / length) if length > 0 else 0.0


def kinds() -> list[str]:
    """The names of all kinds of fold-in, sorted."""
    modules = {module.name for module in pkgutil.iter_modules(folder.__path__)}
    return sorted(modules - {"base"})


def restore(arrays: Mapping[str, np.ndarray], scalars: Mapping[str, str | float]) -> FoldIn:
    """The fold-in whose `arrays` and `scalars` these are. The arrays may be memory-mapped.

    Raises ValueError for an unknown kind, TypeError for a missing or an unexpected field.
    """
    fields = dict(scalars)
    kind = fields.pop("kind", None)
    # The kind comes from a manifest: import nothing but the files of this folder.
    if kind not in kinds():
        raise ValueError(f"There is no fold-in of kind {kind!r}; the kinds are {kinds()}.")
    module = importlib.import_module(f"{folder.__name__}.{kind}")
    return module.FOLD_IN(**arrays, **fields)


def save_fold_in(home: Path, model: FoldIn) -> None:
    """Write a fold-in to a new folder: one file per array, and scalars.json."""
    home.mkdir()
    for name, array in model.arrays().items():
        np.save(home / f"{name}.npy", array, allow_pickle=False)
    (home / "scalars.json").write_text(json.dumps(model.scalars(), sort_keys=True) + "\n")


def load_fold_in(home: Path) -> FoldIn:
    """The fold-in that `save_fold_in` wrote, with its arrays memory-mapped. Raises as `restore`."""
    arrays = {}
    for file in home.glob("*.npy"):
        arrays[file.stem] = np.load(file, mmap_mode="r", allow_pickle=False)
    return restore(arrays, json.loads((home / "scalars.json").read_text()))
