"""From whole vectors to shorter ones, in plain NumPy: whatever trained it, any service can use it.

    h_0 = v,    h_i = h_(i-1) W_i + b_i,    or the larger of that and 0 where layer i is rectified

A length is the first so many columns of one of the h. So an autoencoder publishes each of its
layers, and a single layer without a bias publishes prefixes on other axes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 4096  # that are in memory at every width at once
STATE = "encoder.json"


@dataclass(frozen=True)
class Encoder:
    """The layers, and where each length is.

    method: what made it, a file of this folder. whole: length of the vectors that it takes.
    weights: W_i, (width before, width after) float32; biases: b_i, (width after,) float32;
    rectified: one for each layer. depths: length -> the layers before it.
    """

    method: str
    whole: int
    depths: dict[int, int]
    weights: list[np.ndarray] = field(default_factory=list)
    biases: list[np.ndarray] = field(default_factory=list)
    rectified: list[bool] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """What it offers, the longest first."""
        return sorted(self.depths, reverse=True)

    def encode(self, vectors: np.ndarray, length: int) -> np.ndarray:
        """The vectors at one of its lengths, (n, length) float32. vectors: (n, whole).

        A vector of zeros, of someone of whom nothing is known, remains one. Raises ValueError for a
        length that it does not have, or vectors that do not fit.
        """
        if length not in self.depths:
            raise ValueError(f"There is no length {length}; {self.method} has {self.lengths}.")
        if vectors.shape[1] != self.whole:
            raise ValueError(
                f"Vectors of length {vectors.shape[1]}, an encoder of vectors of length "
                f"{self.whole}: both must come from one version."
            )
        shorter = np.zeros((len(vectors), length), np.float32)
        for start in range(0, len(vectors), ROWS):
            rows = slice(start, start + ROWS)
            shorter[rows] = self._encoded(np.asarray(vectors[rows], np.float32), length)
        return shorter

    def _encoded(self, vectors: np.ndarray, length: int) -> np.ndarray:
        known = np.any(vectors != 0, axis=1, keepdims=True)
        found = vectors
        for layer in range(self.depths[length]):
            found = found @ self.weights[layer] + self.biases[layer]
            if self.rectified[layer]:
                found = np.maximum(found, 0)
        return found[:, :length] * known

    # Storage

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` takes, by name."""
        found = {}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found[f"weight_{layer}"] = weight
            found[f"bias_{layer}"] = bias
        return found

    def scalars(self) -> dict[str, Any]:
        """The rest of the state, ready for JSON."""
        depths = {str(length): self.depths[length] for length in self.lengths}
        return {
            "method": self.method,
            "whole": self.whole,
            "depths": depths,
            "rectified": self.rectified,
        }


def shortened(vectors: np.ndarray, length: int | None, encoder: Encoder | None) -> np.ndarray:
    """The vectors at a learned length, or the first `length` numbers of each; None: whole.

    encoder: None where no length was learned.
    """
    if encoder is not None and length in encoder.depths:
        return encoder.encode(vectors, length)
    return vectors[:, :length]


def restore(arrays: Mapping[str, np.ndarray], scalars: Mapping[str, Any]) -> Encoder:
    """The encoder whose `arrays` and `scalars` these are. The arrays may be memory-mapped.

    Raises LookupError where something is missing.
    """
    layers = range(len(scalars["rectified"]))
    depths = {int(length): depth for length, depth in scalars["depths"].items()}
    return Encoder(
        scalars["method"],
        scalars["whole"],
        depths,
        [arrays[f"weight_{layer}"] for layer in layers],
        [arrays[f"bias_{layer}"] for layer in layers],
        list(scalars["rectified"]),
    )


def save_encoder(home: Path, encoder: Encoder) -> None:
    """Write an encoder to a new folder: one file per array, and its state."""
    home.mkdir()
    for name, array in encoder.arrays().items():
        np.save(home / f"{name}.npy", array, allow_pickle=False)
    (home / STATE).write_text(json.dumps(encoder.scalars(), sort_keys=True) + "\n")


def load_encoder(home: Path) -> Encoder | None:
    """The encoder that `save_encoder` wrote; None where there is no such folder."""
    if not home.exists():
        return None
    arrays = {}
    for file in home.glob("*.npy"):
        arrays[file.stem] = np.load(file, allow_pickle=False)
    return restore(arrays, json.loads((home / STATE).read_text()))
