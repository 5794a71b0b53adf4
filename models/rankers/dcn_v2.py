"""DCN-V2: layers that multiply the input by a linear map of what is there, beside a network.

Source: Wang et al.: DCN V2, WWW 2021, arXiv:2008.13535, in parallel. With `rank`, each matrix is a
product of two thin ones.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import DeepOptions, OnFields
from models.rankers.layers import perceptron


class Options(DeepOptions):
    """The options of DCN-V2, `[ranker.dcn_v2]`."""

    layers: int = Field(default=2, ge=1)
    """Cross layers."""

    rank: int = Field(default=0, ge=0)
    """Rank of the matrix of a cross layer; 0 for a full matrix."""


class DCNV2(OnFields):
    """Cross layers x ← x₀ ⊙ (W x + b) + x, and hidden layers beside them, before the heads."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        self.crosses = nn.ModuleList()
        for _ in range(options.layers):
            self.crosses.append(square(self.width, options.rank))
        self.hidden = perceptron([self.width, *options.hidden], options.dropout)
        together = self.width + options.hidden[-1]
        self.heads = nn.Linear(together, len(spec.labels), bias=False)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        first_BE = fields_BFK.flatten(1)
        crossed_BE = first_BE
        for cross in self.crosses:
            crossed_BE = first_BE * cross(crossed_BE) + crossed_BE
        return self.heads(torch.cat([crossed_BE, self.hidden(first_BE)], dim=1))


def square(width: int, rank: int) -> nn.Module:
    """W x + b with W (width, width), or W = U V of the given rank."""
    if not rank:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))


RANKER: type[Ranker] = DCNV2
