"""Adam, for gradients that are written out.

Source: Kingma & Ba 2014, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980.
"""

from __future__ import annotations

import numpy as np

MEAN, SQUARE, EPSILON = 0.9, 0.999, 1e-8  # as torch has them


class Adam:
    """Steps downhill, in place. Their length falls linearly from `rate` to 0 in `steps` steps."""

    def __init__(self, weights: list[np.ndarray], rate: float, steps: int) -> None:
        self.weights, self.rate, self.steps = weights, rate, steps
        self.means = [np.zeros_like(weight) for weight in weights]
        self.squares = [np.zeros_like(weight) for weight in weights]
        self.done = 0

    def step(self, gradients: list[np.ndarray]) -> None:
        """gradients: of the weights, in their order and shapes."""
        rate = self.rate * (1 - self.done / self.steps)
        self.done += 1
        rate *= np.sqrt(1 - SQUARE**self.done) / (1 - MEAN**self.done)
        for weight, gradient, mean, square in zip(
            self.weights, gradients, self.means, self.squares, strict=True
        ):
            mean += (1 - MEAN) * (gradient - mean)
            square += (1 - SQUARE) * (gradient**2 - square)
            weight -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(EPSILON))
