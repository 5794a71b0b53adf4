"""A deep autoencoder, each of whose layers on the way down is a length.

    h_0 = v / |v|,   h_i = max(0, h_(i-1) W_i),   and up again to ṽ, whose last layer is linear

Trained end to end: the mean of (ṽ - v / |v|)², over both sides. Source: Shiebler et al. 2018,
"Fighting Redundancy and Model Decay with Embeddings", Figure 8. Ours differs in two ways.

Without biases a layer of c·v is c times that of v, for c > 0: so the network learns directions, and
the shorter vectors keep the lengths that say how much is known of somebody.

It begins where it already works: half of the units of a layer are the first canonical axes, the
other half their negatives, so that a pair of rectified units knows what its axis knows. From random
weights, some thousand vectors teach it next to nothing (docs/lengths.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embeddings.lengths.encoder import Encoder
from embeddings.lengths.torch_training import minimise, values, variables
from embeddings.spaces.rotation import canonical_axes
from embeddings.torch_threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

STEPS, BATCH, RATE = 600, 256, 3e-4
NOISE = 0.01  # of the first weights, without which unused units would never learn


class Autoencoder:
    """The way down is kept; the way up only teaches it."""

    def fit(
        self, consumers: np.ndarray, producers: np.ndarray, lengths: Sequence[int], seed: int
    ) -> Encoder:
        """As `Reducer.fit`."""
        import torch

        vectors = np.concatenate([consumers, producers]).astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        # By the mean size of a number, so that the rate suits any length of vectors.
        directions = vectors / np.where(norms > 0, norms, 1) * np.float32(np.sqrt(len(vectors[0])))
        widths = [vectors.shape[1], *sorted(lengths, reverse=True)]
        with one_thread():
            weights = variables(first_weights(canonical_axes(consumers, producers), widths, seed))
            inputs = torch.from_numpy(directions)

            def loss(rows: np.ndarray) -> Tensor:
                wanted = inputs[torch.from_numpy(rows)]
                return torch.mean((through(wanted, weights) - wanted) ** 2)

            minimise(loss, weights, len(vectors), BATCH, STEPS, RATE, seed)
        layers = len(widths) - 1
        return Encoder(
            "autoencoder",
            widths[0],
            {width: depth for depth, width in enumerate(widths) if depth},
            values(weights[:layers]),
            [np.zeros(width, np.float32) for width in widths[1:]],
            [True] * layers,
        )


REDUCER = Autoencoder()


def first_weights(axes: np.ndarray, widths: Sequence[int], seed: int) -> list[np.ndarray]:
    """The weights down through these widths, and up again. axes: (k, k), k the first width."""
    rng = np.random.default_rng([seed, 1])  # not the numbers of the batches
    down = []
    before = axes  # of which the first columns are what a layer should know
    for after in widths[1:]:
        half = after // 2
        pairs = np.zeros((len(before), after))
        pairs[:, :half] = before[:, :half]
        pairs[:, half : 2 * half] = -before[:, :half]
        down.append(pairs)
        # max(0, x) - max(0, -x) = x: how the next layer reads an axis.
        before = np.zeros((after, half))
        before[:half], before[half : 2 * half] = np.eye(half), -np.eye(half)
    up = []
    for layer in reversed(down):
        # The inverse on these axes: a pair that is read whole gives its axis back.
        up.append(layer.T if layer is down[0] else np.maximum(layer.T, 0))
    return [weight + NOISE * rng.normal(size=weight.shape) for weight in [*down, *up]]


def through(vectors: Tensor, weights: list[Tensor]) -> Tensor:
    """All layers, the last of which is linear."""
    import torch

    found = vectors
    for weight in weights[:-1]:
        found = torch.relu(found @ weight)
    return found @ weights[-1]
