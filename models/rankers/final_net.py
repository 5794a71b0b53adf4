"""FinalNet: layers that multiply two linear maps of their input.

Source: Zhu et al.: FINAL, SIGIR 2023, with two blocks. The paper's self-distillation between the
blocks is a loss, and training has one loss for all rankers: it is left out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import DeepOptions, OnFields


class Options(DeepOptions):
    """The options of FinalNet, `[ranker.final_net]`."""


class Factorised(nn.Module):
    """ReLU(a + a ⊙ b) with a = W₁ x + β₁ and b = W₂ x + β₂: (B, I) -> (B, O)."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.both = nn.Linear(in_width, 2 * out_width)

    def forward(self, x_BI: Tensor) -> Tensor:
        a_BO, b_BO = self.both(x_BI).chunk(2, dim=1)
        return F.relu(a_BO + a_BO * b_BO)


class FinalNet(OnFields):
    """The mean of the logits of two blocks of such layers."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        self.blocks = nn.ModuleList()
        for _ in range(2):
            block = nn.Sequential()
            width = self.width
            for out_width in options.hidden:
                block.append(Factorised(width, out_width))
                block.append(nn.Dropout(options.dropout))
                width = out_width
            block.append(nn.Linear(width, len(spec.labels), bias=False))
            self.blocks.append(block)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        first, second = self.blocks
        x_BE = fields_BFK.flatten(1)
        return (first(x_BE) + second(x_BE)) / 2


RANKER: type[Ranker] = FinalNet
