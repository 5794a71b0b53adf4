"""Parallel MaskNet: every example gates its own features.

Source: Wang, She, Zhang: MaskNet, DLP-KDD 2021, arXiv:2102.07619. Not in the paper: the published
vectors of consumer and producer enter as three fields (see `inputs`), and there is one head per
label.

Shapes: B batch, C categorical columns, N numeric columns, V length of a published vector, K width
of a field, F fields, E = F·K all fields side by side, D features to gate, H output of a block,
L labels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker, RankerOptions, Statistics
from models.rankers.inputs import FieldNorms, Fields


class Options(RankerOptions):
    """The widths of the network, `[ranker.masknet]`."""

    field_width: int = Field(default=8, ge=1)
    """K, length of the vector of one field."""

    number_fields: int = Field(default=4, ge=1)
    """Fields that all numeric columns together are projected to."""

    blocks: int = Field(default=3, ge=1)
    """Parallel mask blocks."""

    ratio: float = Field(default=2.0, gt=0)
    """Width of a mask's aggregation layer over that of its projection layer."""

    block_width: int = Field(default=64, ge=1)
    """H, width of a block's output."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64,)
    """Widths of the layers between the blocks and the heads."""


class MaskBlock(nn.Module):
    """h = ReLU(LN(W (x ⊙ m))), with the instance-guided mask m = P₂ ReLU(P₁ e). Eq. 3–9.

    (B, D), (B, E) -> (B, H).
    """

    def __init__(self, embed_width: int, in_width: int, out_width: int, ratio: float) -> None:
        super().__init__()
        aggregation = int(ratio * in_width)
        self.mask = nn.Sequential(
            nn.Linear(embed_width, aggregation), nn.ReLU(), nn.Linear(aggregation, in_width)
        )
        self.project = nn.Linear(in_width, out_width, bias=False)
        self.norm = nn.LayerNorm(out_width)

    def forward(self, x_BD: Tensor, e_BE: Tensor) -> Tensor:
        return F.relu(self.norm(self.project(x_BD * self.mask(e_BE))))  # (B, H)


class MaskNet(nn.Module):
    """Logits of every label: (B, C), (B, N), (B, 2, V) -> (B, L)."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__()
        self.spec = spec
        self.options = options
        self.fields = Fields(spec, options.field_width, options.number_fields)
        self.norms = FieldNorms(self.fields.count, options.field_width)
        embed_width = self.fields.count * options.field_width  # E
        self.blocks = nn.ModuleList(
            MaskBlock(embed_width, embed_width, options.block_width, options.ratio)
            for _ in range(options.blocks)
        )
        widths = [options.blocks * options.block_width, *options.hidden]
        layers: list[nn.Module] = []
        for in_width, out_width in pairwise(widths):
            layers += [nn.Linear(in_width, out_width), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.heads = nn.Linear(widths[-1], len(spec.labels))

    def initialise(self, statistics: Statistics) -> None:
        """Scale the numbers; start every head at the log odds of its label.

        Otherwise the first steps would be spent on learning how rare each label is.
        """
        self.fields.initialise(statistics)
        with torch.no_grad():
            self.heads.bias.copy_(torch.from_numpy(statistics.log_odds_L))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        fields_BFK = self.fields(categories_BC, numbers_BN, vectors_B2V)
        normed_BE = self.norms(fields_BFK).flatten(1)
        e_BE = fields_BFK.flatten(1)  # the masks read the raw fields
        outputs = [block(normed_BE, e_BE) for block in self.blocks]
        h_BH = torch.cat(outputs, dim=1)  # H of every block, side by side
        return self.heads(self.hidden(h_BH))


RANKER: type[Ranker] = MaskNet
