"""MaskNet, parallel and serial: every example gates its own features.

Source: Wang, She, Zhang: MaskNet, DLP-KDD 2021, arXiv:2102.07619. Not in the paper: the published
vectors of consumer and producer enter as three fields (see `inputs`), and there is one head per
label.

Shapes: B batch, C categorical columns, N numeric columns, V length of a published vector, K width
of a field, F fields, E = F·K all fields side by side, n parallel blocks, A width of a mask's
aggregation layer, D features to gate, H output of a block, L labels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker, Statistics
from models.rankers.inputs import FieldOptions, Fields
from models.rankers.layers import Stacked, StackedNorm, perceptron


class Options(FieldOptions):
    """The shape of the network, `[ranker.masknet]`."""

    structure: Literal["parallel", "serial"] = "parallel"
    """Whether all blocks read the fields, or each reads the output of the one before it."""

    blocks: int = Field(default=3, ge=1)
    """Mask blocks."""

    ratio: float = Field(default=2.0, gt=0)
    """Width of a mask's aggregation layer over that of its projection layer."""

    block_width: int = Field(default=64, ge=1)
    """H, width of a block's output."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64,)
    """Widths of the layers between the blocks and the heads."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the outputs of blocks and hidden layers that a training step leaves out."""

    mask: bool = True
    """Whether blocks gate their input; without, as in the paper's ablation, it stays as it is."""

    layer_norm: bool = True
    """Whether fields and blocks are normalised."""

    feed_forward: bool = True
    """Whether blocks have W; without, a block's output is its gated input."""


class MaskBlocks(nn.Module):
    """n blocks at once: h = ReLU(LN(W (x ⊙ m))), with the mask m = P₂ ReLU(P₁ e + β₁) + β₂.

    (n, B, D) or (1, B, D), and (B, E) -> (n, B, H). Without W, H is D and there is no ReLU.
    Source: Eq. 3–9 of the paper.
    """

    def __init__(self, count: int, embed_width: int, in_width: int, options: Options) -> None:
        super().__init__()
        self.count = count
        self.aggregate: nn.Module | None = None
        if options.mask:
            aggregation = int(options.ratio * in_width)
            self.aggregate = Stacked(count, embed_width, aggregation)
            self.mask = Stacked(count, aggregation, in_width)
        self.project: nn.Module | None = None
        self.norm: nn.Module = nn.Identity()
        self.out_width = in_width
        if options.feed_forward:
            self.out_width = options.block_width
            self.project = Stacked(count, in_width, self.out_width, bias=False)
            if options.layer_norm:
                self.norm = StackedNorm(count, 1, self.out_width)

    def masks(self, e_BE: Tensor) -> Tensor:
        """What the features of every example are multiplied with: (n, B, D)."""
        assert self.aggregate is not None, "these blocks have no masks"
        aggregated_nBA = F.relu(self.aggregate(e_BE.expand(self.count, -1, -1)))
        return self.mask(aggregated_nBA)

    def forward(self, x_nBD: Tensor, e_BE: Tensor, masked_D: Tensor | None = None) -> Tensor:
        """masked_D: bool, the features that the mask gates; by default all of them."""
        if self.aggregate is not None:
            masks_nBD = self.masks(e_BE)
            if masked_D is not None:
                masks_nBD = torch.where(masked_D, masks_nBD, 1)
            x_nBD = x_nBD * masks_nBD
        x_nBD = x_nBD.expand(self.count, -1, -1)
        if self.project is None:
            return x_nBD
        return F.relu(self.norm(self.project(x_nBD)))  # (n, B, H)


class MaskNet(nn.Module):
    """Logits of every label: (B, C), (B, N), (B, 2, V) -> (B, L)."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__()
        self.spec = spec
        self.options = options
        self.fields = Fields(spec, options.field_width, options.number_fields)
        self.norms: nn.Module = nn.Identity()
        if options.layer_norm:
            # LN-EMB, Eq. 6: every field has its own scale and shift.
            self.norms = StackedNorm(self.fields.count, options.field_width)
        embed_width = self.fields.count * options.field_width  # E
        self.stages = nn.ModuleList()
        width = embed_width
        serial = options.structure == "serial"
        for _ in range(options.blocks if serial else 1):
            stage = MaskBlocks(1 if serial else options.blocks, embed_width, width, options)
            self.stages.append(stage)
            width = stage.count * stage.out_width
        self.dropout = nn.Dropout(options.dropout)
        self.hidden = perceptron([width, *options.hidden], options.dropout)
        self.heads = nn.Linear([width, *options.hidden][-1], len(spec.labels))
        self.register_load_state_dict_pre_hook(lambda _, state, *__: stack_blocks(state))

    def initialise(self, statistics: Statistics) -> None:
        """Scale the numbers; start every head at the log odds of its label.

        Otherwise the first steps would be spent on learning how rare each label is.
        """
        self.fields.initialise(statistics)
        with torch.no_grad():
            self.heads.bias.copy_(torch.from_numpy(statistics.log_odds_L))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        return self.gated(self.fields(categories_BC, numbers_BN, vectors_B2V))

    @property
    def has_masks(self) -> bool:
        return self.options.mask

    def field_masks(self, fields_BFK: Tensor) -> Tensor:
        """What the first blocks multiply every field with: (n, B, F, K)."""
        first = self.stages[0]
        assert isinstance(first, MaskBlocks)
        masks_nBD = first.masks(fields_BFK.flatten(1))
        return masks_nBD.unflatten(2, fields_BFK.shape[1:])

    def gated(self, fields_BFK: Tensor, masked_F: Tensor | None = None) -> Tensor:
        """Logits of these fields: (B, L). masked_F: bool, those that the first blocks gate."""
        e_BE = fields_BFK.flatten(1)  # the masks read the raw fields, also in a series
        x_nBD = self.norms(fields_BFK).flatten(1)[None]
        masked_D = None if masked_F is None else masked_F.repeat_interleave(fields_BFK.shape[2])
        for place, stage in enumerate(self.stages):
            x_nBD = self.dropout(stage(x_nBD, e_BE, masked_D if place == 0 else None))
        h_BH = x_nBD.transpose(0, 1).flatten(1)  # the outputs of all blocks, side by side
        return self.heads(self.hidden(h_BH))


def stack_blocks(state: dict[str, Any]) -> None:
    """Rename the weights of a model that was stored when every block had layers of its own."""
    old = {name: state.pop(name) for name in list(state) if name.startswith("blocks.")}
    if not old:
        return
    blocks = range(sum(name.endswith("project.weight") for name in old))
    for layer, name in (("mask.0", "aggregate"), ("mask.2", "mask"), ("project", "project")):
        weights = [old[f"blocks.{block}.{layer}.weight"].T for block in blocks]
        state[f"stages.0.{name}.weight"] = torch.stack(weights)
        if layer != "project":
            biases = [old[f"blocks.{block}.{layer}.bias"] for block in blocks]
            state[f"stages.0.{name}.bias"] = torch.stack(biases)[:, None]
    for old_name, name in (("weight", "scale"), ("bias", "shift")):
        values = [old[f"blocks.{block}.norm.{old_name}"] for block in blocks]
        state[f"stages.0.norm.{name}"] = torch.stack(values)[:, None]
        state[f"norms.{name}"] = state.pop(f"norms.{name}_FK")


RANKER: type[Ranker] = MaskNet
