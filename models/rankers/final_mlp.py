"""FinalMLP: two networks on differently gated fields, joined by a bilinear form.

Source: Mao et al.: FinalMLP, AAAI 2023, arXiv:2304.00902. Several labels: each has its own form.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker, RankerError
from models.rankers.inputs import DeepOptions, OnFields
from models.rankers.layers import perceptron


class Options(DeepOptions):
    """The options of FinalMLP, `[ranker.final_mlp]`."""

    contexts: tuple[str, str] = ("", "")
    """The categorical field that gates each network's input; empty for a learned vector."""

    gate_hidden: int = Field(default=32, ge=1)
    """Width of the hidden layer of a gate."""

    fusion_heads: int = Field(default=1, ge=1)
    """Parts that the outputs of both networks are cut into; the form joins like parts."""


class Stream(nn.Module):
    """ReLU layers on x ⊙ 2σ(gate(context)): (B, F, K) -> (B, H)."""

    def __init__(self, names: tuple[str, ...], context: str, width: int, options: Options) -> None:
        super().__init__()
        if context and context not in names:
            raise RankerError(
                f"The ranker 'final_mlp' has no categorical field '{context}' to gate with. "
                f"Set contexts to two of: {', '.join(names)}; or to '' for a learned vector."
            )
        self.position = names.index(context) if context else None
        self.learned_K = nn.Parameter(torch.zeros(options.field_width)) if not context else None
        self.gate = nn.Sequential(
            nn.Linear(options.field_width, options.gate_hidden),
            nn.ReLU(),
            nn.Linear(options.gate_hidden, width),
            nn.Sigmoid(),
        )
        self.hidden = perceptron([width, *options.hidden], options.dropout)

    def forward(self, fields_BFK: Tensor) -> Tensor:
        context: Tensor | None = self.learned_K
        if context is None:
            context = fields_BFK[:, self.position]
        return self.hidden(fields_BFK.flatten(1) * (2 * self.gate(context)))


class FinalMLP(OnFields):
    """w₁ x + w₂ y + Σ_h x_hᵀ W_h y_h of the outputs x and y of two streams."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        width = options.hidden[-1]
        if width % options.fusion_heads:
            raise RankerError(
                f"The ranker 'final_mlp' cannot cut its last hidden width {width} into "
                f"fusion_heads = {options.fusion_heads} equal parts. Use a divisor of {width}."
            )
        first, second = options.contexts
        self.first = Stream(spec.fields, first, self.width, options)
        self.second = Stream(spec.fields, second, self.width, options)
        self.heads = nn.Linear(2 * width, len(spec.labels), bias=False)
        part = width // options.fusion_heads
        form = torch.empty(len(spec.labels), options.fusion_heads, part, part)
        self.form_LHXY = nn.Parameter(nn.init.xavier_normal_(form))

    def interact(self, fields_BFK: Tensor) -> Tensor:
        x_BW = self.first(fields_BFK)
        y_BW = self.second(fields_BFK)
        parts = (self.options.fusion_heads, -1)
        x_BHX, y_BHY = x_BW.unflatten(1, parts), y_BW.unflatten(1, parts)
        bilinear_BL = torch.einsum("bhx,lhxy,bhy->bl", x_BHX, self.form_LHXY, y_BHY)
        return self.heads(torch.cat([x_BW, y_BW], dim=1)) + bilinear_BL


RANKER: type[Ranker] = FinalMLP
