"""One encoder whose first columns are trained at every length at once.

A shorter vector is the first l numbers of v W, and W begins as the canonical axes. At each length,
the products of a consumer with some producers should rank these as the products of whole vectors
do. With t_j = u·p_j / τ and s_j = (u W)_l·(p_j W)_l / τ, the loss of a consumer at length l is

    L_l = −Σ_(j ∈ A_l) softmax(t)_j log softmax(s)_j

over A_l: the TOP producers of largest t, which should be found, and the TOP of largest s, which
this length takes for the best ones: its own hard negatives. The lengths count the same. τ is the
standard deviation of the products of whole vectors. Source of the nested losses: Kusupati et al.
2022, "Matryoshka Representation Learning", NeurIPS 35.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embeddings.lengths.base import linear
from embeddings.lengths.encoder import Encoder
from embeddings.lengths.torch_training import minimise, values, variables
from embeddings.spaces.rotation import canonical_axes
from embeddings.torch_threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

STEPS, BATCH, RATE = 100, 256, 3e-4
POOL = 1024  # producers, at most, that the consumers of a batch are compared with
TOP = 32


class Matryoshka:
    """Linear, so that it can lose little against the axes that it begins with."""

    def fit(
        self, consumers: np.ndarray, producers: np.ndarray, lengths: Sequence[int], seed: int
    ) -> Encoder:
        """As `Reducer.fit`."""
        import torch

        users = consumers.astype(np.float32)
        targets = producers.astype(np.float32)
        rng = np.random.default_rng([seed, 1])  # not the numbers of the batches
        with one_thread():
            axes = canonical_axes(users, targets)[:, : max(lengths)]
            (weight,) = variables([axes])
            heat = temperature(users, targets)

            def loss(rows: np.ndarray) -> Tensor:
                pool = rng.choice(len(targets), min(POOL, len(targets)), replace=False)
                u, p = torch.from_numpy(users[rows]), torch.from_numpy(targets[pool])
                return nested_loss(u, p, weight, lengths, heat)

            minimise(loss, [weight], len(users), BATCH, STEPS, RATE, seed)
        (learned,) = values([weight])
        return linear("matryoshka", learned, lengths, np.zeros(learned.shape[1]))


REDUCER = Matryoshka()


def temperature(users: np.ndarray, targets: np.ndarray) -> float:
    """The standard deviation of all products of a consumer and a producer.

    By the moments of both sides: Σ (u·p)² = tr(UᵀU VᵀV), so that no product is computed.
    """
    u, v = users.astype(np.float64), targets.astype(np.float64)
    mean = u.mean(axis=0) @ v.mean(axis=0)
    square = np.sum((u.T @ u) * (v.T @ v)) / (len(u) * len(v))
    return float(np.sqrt(max(square - mean**2, 0.0))) or 1.0


def nested_loss(
    users: Tensor, targets: Tensor, weight: Tensor, lengths: Sequence[int], heat: float
) -> Tensor:
    """The mean of L_l over consumers and lengths.

    users: (b, k), targets: (c, k), weight: (k, longest length).
    """
    import torch

    whole = users @ targets.T / heat
    wanted = among_first(whole)
    shorter_users, shorter_targets = users @ weight, targets @ weight
    total = torch.zeros(())
    for length in lengths:
        found = shorter_users[:, :length] @ shorter_targets[:, :length].T / heat
        judged = wanted | among_first(found.detach())
        truth = torch.softmax(whole.masked_fill(~judged, -torch.inf), dim=1)
        guess = torch.log_softmax(found.masked_fill(~judged, -torch.inf), dim=1)
        # 0 · −∞ is no number: what is not judged counts nothing.
        total = total - (truth * guess.masked_fill(~judged, 0.0)).sum(dim=1).mean()
    return total / len(lengths)


def among_first(scores: Tensor) -> Tensor:
    """Which are the TOP of their row, (b, c) bool; equally good ones count too."""
    import torch

    smallest = torch.topk(scores, min(TOP, scores.shape[1]), dim=1).values[:, -1:]
    return scores >= smallest
