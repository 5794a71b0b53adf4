"""DLRM: numbers through a network of their own, then the scalar products of all pairs of vectors.

Source: Naumov et al.: Deep Learning Recommendation Model, 2019, arXiv:1906.00091.
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
    """The options of DLRM, `[ranker.dlrm]`."""

    number_fields: int = Field(default=0, ge=0, le=0)
    """None: the bottom network takes the place of the projections of numbers."""

    bottom: tuple[int, ...] = (64,)
    """Widths of the hidden layers between the numbers and their vector."""


class DLRM(OnFields):
    """Logits of [z, ⟨vᵢ, vⱼ⟩ for i < j], where z, the vector of all numbers, is one of the v."""

    pairs_2P: Tensor

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        vectors = self.fields.count
        width = 0
        if spec.numeric:
            vectors += 1
            width = options.field_width
            self.bottom = perceptron([len(spec.numeric), *options.bottom, width])
        pairs = torch.triu_indices(vectors, vectors, offset=1)
        self.register_buffer("pairs_2P", pairs, persistent=False)
        width += pairs.shape[1]
        self.hidden = perceptron([width, *options.hidden], options.dropout)
        self.heads = nn.Linear(options.hidden[-1], len(spec.labels), bias=False)

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        v_BFK = self.fields(categories_BC, numbers_BN, vectors_B2V)
        parts = []
        if self.spec.numeric:
            z_BK = self.bottom(self.fields.standardised(numbers_BN))
            v_BFK = torch.cat([z_BK[:, None], v_BFK], dim=1)
            parts.append(z_BK)
        products_BFF = v_BFK @ v_BFK.transpose(1, 2)
        first, second = self.pairs_2P
        parts.append(products_BFF[:, first, second])
        return self.heads(self.hidden(torch.cat(parts, dim=1))) + self.bias_L


RANKER: type[Ranker] = DLRM
