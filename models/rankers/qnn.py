"""QNN-α: layers that multiply their input with a sum of ReLU maps of it.

Source: Li et al.: Revisiting Feature Interactions from the Perspective of Quadratic Neural Networks
for Click-through Rate Prediction, KDD 2025, arXiv:2505.17999, with one head. Its self-ensemble loss
is a matter of training and not of the network.

Shapes: B batch, F fields, K width of a field, E = F·K all fields side by side, R maps, L labels.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import FieldOptions, OnFields
from models.rankers.layers import BatchNorm


class Options(FieldOptions):
    """The options of QNN-α, `[ranker.qnn]`."""

    layers: int = Field(default=2, ge=1)
    """Layers: n of them reach degree 2ⁿ."""

    maps: int = Field(default=4, ge=1)
    """R, ReLU maps that a layer sums up."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the outputs of maps and layers that a training step leaves out."""


class Quadratic(nn.Module):
    """x + x ⊙ Σ_r h_r with [h_1, …, h_R] = ReLU(BN(W x + b)): (B, E) -> (B, E).

    The rows x ⊙ h_r are the Khatri-Rao product of x and the matrix of all h_r. The activation is
    before the product (mid-activation), and none follows.
    """

    def __init__(self, width: int, maps: int, dropout: float) -> None:
        super().__init__()
        self.maps = maps
        self.linear = nn.Linear(width, maps * width)
        self.norm = BatchNorm(maps * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BE: Tensor) -> Tensor:
        h_BRE = self.dropout(F.relu(self.norm(self.linear(x_BE)))).unflatten(1, (self.maps, -1))
        return self.dropout(x_BE + x_BE * h_BRE.sum(dim=1))


class QNN(OnFields):
    """A linear head per label on the last of several such layers."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        layers = []
        for _ in range(options.layers):
            layers.append(Quadratic(self.width, options.maps, options.dropout))
        self.quadratic = nn.Sequential(*layers, nn.Linear(self.width, len(spec.labels), bias=False))

    def interact(self, fields_BFK: Tensor) -> Tensor:
        return self.quadratic(fields_BFK.flatten(1))


RANKER: type[Ranker] = QNN
