"""AutoInt: fields attend to each other.

Source: Song et al.: AutoInt, CIKM 2019, arXiv:1810.11921.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import FieldOptions, OnFields


class Options(FieldOptions):
    """The options of AutoInt, `[ranker.autoint]`."""

    layers: int = Field(default=2, ge=1)
    """Layers of attention."""

    attention_heads: int = Field(default=2, ge=1)
    """Heads of a layer."""

    head_width: int = Field(default=8, ge=1)
    """Width of a field in one head."""


class Attention(nn.Module):
    """ReLU(concat over heads of softmax(q kᵀ) v + W x), without the scale 1/√d: (B, F, ·)."""

    def __init__(self, in_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(in_width, 3 * heads * head_width, bias=False)  # q, k, v
        self.residual = nn.Linear(in_width, heads * head_width, bias=False)

    def forward(self, x_BFI: Tensor) -> Tensor:
        by_head = self.project(x_BFI).unflatten(2, (3, self.heads, -1))
        q, k, v = by_head.permute(2, 0, 3, 1, 4)  # each (B, heads, F, width)
        attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return F.relu(attended.transpose(1, 2).flatten(2) + self.residual(x_BFI))


class AutoInt(OnFields):
    """Layers of attention between fields, and one linear head per label on all of them."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        self.attention = nn.Sequential()
        width = options.field_width
        for _ in range(options.layers):
            layer = Attention(width, options.attention_heads, options.head_width)
            self.attention.append(layer)
            width = options.attention_heads * options.head_width
        self.heads = nn.Linear(self.fields.count * width, len(spec.labels), bias=False)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        return self.heads(self.attention(fields_BFK).flatten(1))


RANKER: type[Ranker] = AutoInt
