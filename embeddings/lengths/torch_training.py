"""What the trained encoders share: random batches, Adam, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[[np.ndarray], "Tensor"]  # of the rows in a batch, (b,)


def minimise(
    loss: Loss, weights: list[Tensor], rows: int, batch: int, steps: int, rate: float, seed: int
) -> list[float]:
    """Follow the gradient of a loss over random batches of rows, with a rate that falls to zero.

    A number of steps, not of passes: so a large version takes no longer than a small one. Returns
    the loss of each step.
    """
    import torch

    rng = np.random.default_rng(seed)
    adam = torch.optim.Adam(weights)
    losses = []
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        adam.zero_grad()
        value = loss(rng.integers(rows, size=batch))
        value.backward()
        adam.step()
        losses.append(float(value.detach()))
    return losses


def variables(arrays: list[np.ndarray]) -> list[Tensor]:
    """Weights to be trained."""
    import torch

    return [torch.tensor(array.astype(np.float32), requires_grad=True) for array in arrays]


def values(weights: list[Tensor]) -> list[np.ndarray]:
    """The weights as they are now."""
    return [weight.detach().numpy().copy() for weight in weights]
