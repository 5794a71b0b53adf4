"""One tower: a small network from a bag of ids and some features to a vector.

    z = Σ_j w_j inputs_j / Σ_j w_j + Σ_f x_f features_f + bias
    vector = [z, max(0, z·hidden + hidden_bias)] · out

The bag of a consumer is the producers in its history, that of a producer is the producer itself. An
entity with an empty bag has a bias of its own: what is not known of it must not be taken for zero.
Shapes: m ids, F features, d width of z, H units of the hidden layer, k length of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.kernels.arguments import csr_arguments, read_only


@dataclass(frozen=True)
class Tower:
    """The weights, all float32."""

    inputs: np.ndarray  # (m, d)
    features: np.ndarray  # (F, d)
    bias: np.ndarray  # (2, d): of a bag with ids, of an empty one
    hidden: np.ndarray  # (d, H)
    hidden_bias: np.ndarray  # (1, H)
    out: np.ndarray  # (d + H, k)

    def vectors(self, bags: sp.csr_matrix, features: sp.csr_matrix | None = None) -> np.ndarray:
        """The vectors of n entities, (n, k) float32: zeros for one of which nothing is known.

        bags: (n, m) weights >= 0. features: (n, F). Raises ValueError if a shape does not fit.
        """
        if features is None:
            features = sp.csr_matrix((bags.shape[0], len(self.features)), dtype=np.float32)
        self._check(bags, features)
        tables = (self.inputs, self.features, self.bias)
        layers = (self.hidden, self.hidden_bias, self.out)
        weights = [read_only(array) for array in (*tables, *layers)]
        rows = np.empty((bags.shape[0], self.out.shape[1]), np.float32)
        arguments = (*csr_arguments(bags), *csr_arguments(features), *weights, rows)
        tower_rows(*arguments)
        return rows

    def rotated(self, rotation: np.ndarray) -> Tower:
        """The tower whose vectors are those of this one times `rotation`, (k, k)."""
        return replace(self, out=(self.out @ rotation).astype(np.float32))

    def _check(self, bags: sp.csr_matrix, features: sp.csr_matrix) -> None:
        """Raise ValueError unless all shapes fit: the kernel does not look."""
        d, units = self.hidden.shape
        k = self.out.shape[1]
        n = bags.shape[0]
        shapes = {
            "inputs": (self.inputs.shape, (bags.shape[1], d)),
            "features": (features.shape, (n, len(self.features))),
            "weights of the features": (self.features.shape[1], d),
            "bias": (self.bias.shape, (2, d)),
            "hidden_bias": (self.hidden_bias.shape, (1, units)),
            "out": (self.out.shape, (d + units, k)),
        }
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(
                    f"A tower's {name} must have the shape {expected}, not {found}: "
                    "bags, features and weights must come from one version."
                )


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def tower_rows(
    indptr,
    indices,
    strengths,
    feature_indptr,
    feature_indices,
    feature_values,
    inputs,
    features,
    bias,
    hidden,
    hidden_bias,
    out,
    rows,
):
    """rows[i] = the vector of entity i; not by BLAS, which wakes its threads for a single row."""
    d, units = hidden.shape
    k = out.shape[1]
    z = np.empty(d, np.float32)
    for i in range(len(rows)):
        rows[i] = 0.0
        total = 0.0
        for at in range(indptr[i], indptr[i + 1]):
            total += strengths[at]
        if total <= 0.0 and feature_indptr[i] == feature_indptr[i + 1]:
            continue
        z[:] = bias[0] if total > 0.0 else bias[1]
        if total > 0.0:
            for at in range(indptr[i], indptr[i + 1]):
                weight = np.float32(strengths[at] / total)
                for f in range(d):
                    z[f] += weight * inputs[indices[at], f]
        for at in range(feature_indptr[i], feature_indptr[i + 1]):
            for f in range(d):
                z[f] += feature_values[at] * features[feature_indices[at], f]
        for f in range(d):
            for g in range(k):
                rows[i, g] += z[f] * out[f, g]
        for h in range(units):
            unit = hidden_bias[0, h]
            for f in range(d):
                unit += z[f] * hidden[f, h]
            if unit > 0.0:
                for g in range(k):
                    rows[i, g] += unit * out[d + h, g]
