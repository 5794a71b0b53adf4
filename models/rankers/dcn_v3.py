"""DCN-V3: cross layers whose degree grows linearly, and others whose degree doubles.

Source: Li et al.: DCNv3 (FCN), 2024, arXiv:2407.13349. The paper's Tri-BCE weighs the losses of
both networks; training has one loss for all rankers, that of the mean of their logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import FieldOptions, OnFields


class Options(FieldOptions):
    """The options of DCN-V3, `[ranker.dcn_v3]`."""

    linear_layers: int = Field(default=2, ge=1)
    """Layers that multiply by the input: n of them reach degree n + 1."""

    exponential_layers: int = Field(default=2, ge=1)
    """Layers that multiply by what is there: n of them reach degree 2ⁿ."""


class Cross(nn.Module):
    """by ⊙ [c, c ⊙ ReLU(LN(c))] + x with c = W x + b of half the width, rounded up: (B, E)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = -(-width // 2)
        self.linear = nn.Linear(width, half)
        self.norm = nn.LayerNorm(half)

    def forward(self, x_BE: Tensor, by_BE: Tensor) -> Tensor:
        c = self.linear(x_BE)
        masked = c * F.relu(self.norm(c))
        return by_BE * torch.cat([c, masked], dim=1)[:, : x_BE.shape[1]] + x_BE


class DCNV3(OnFields):
    """The mean of the logits of a linear and of an exponential cross network."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        labels = len(spec.labels)
        self.linear = nn.ModuleList(Cross(self.width) for _ in range(options.linear_layers))
        self.exponential = nn.ModuleList(
            Cross(self.width) for _ in range(options.exponential_layers)
        )
        self.linear_heads = nn.Linear(self.width, labels, bias=False)
        self.exponential_heads = nn.Linear(self.width, labels, bias=False)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        first_BE = fields_BFK.flatten(1)
        linear_BE = first_BE
        for cross in self.linear:
            linear_BE = cross(linear_BE, by_BE=first_BE)
        exponential_BE = first_BE
        for cross in self.exponential:
            exponential_BE = cross(exponential_BE, by_BE=exponential_BE)
        return (self.linear_heads(linear_BE) + self.exponential_heads(exponential_BE)) / 2


RANKER: type[Ranker] = DCNV3
