"""Logistic regression: a weight for every category, number and entry of the vectors.

The product of the two vectors counts as one more vector: a weighted scalar product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker, RankerOptions, Statistics
from models.rankers.inputs import FirstOrder


class Options(RankerOptions):
    """Logistic regression has no options, `[ranker.logistic]`."""


class Logistic(nn.Module):
    """Logits of every label: (B, C), (B, N), (B, 2, V) -> (B, L)."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__()
        self.spec = spec
        self.options = options
        self.first_order = FirstOrder(spec)
        self.bias_L = nn.Parameter(torch.zeros(len(spec.labels)))

    def initialise(self, statistics: Statistics) -> None:
        """Scale the numbers; start every label at its log odds."""
        self.first_order.fields.initialise(statistics)
        with torch.no_grad():
            self.bias_L.copy_(torch.from_numpy(statistics.log_odds_L))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        return self.first_order(categories_BC, numbers_BN, vectors_B2V) + self.bias_L


RANKER: type[Ranker] = Logistic
