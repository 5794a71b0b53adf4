"""The MaskNet of Twitter's home timeline, as published, with one tower per label.

Source: github.com/twitter/the-algorithm-ml, projects/home/recap (configuration local_prod.yaml).
Numbers that are no flags pass sign·log1p, a batch norm and a clamp at ±5; flags stay as they are;
a layer norm follows over both. Every embedding has a layer norm of its own.

Not as published: categories have a learned embedding. An unknown number counts as the mean of its
column instead of as zero. The layer norm has the usual epsilon instead of 0, with which a row of
equal numbers is 0 / 0. No tower has dropout; two of the published ones have. A tower starts at the
log odds of its label.

Shapes: B batch, C categorical columns, N numeric columns, V length of a published vector, K width
of a field, F fields, D all inputs side by side, n blocks, L labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker, RankerError, RankerOptions, Statistics
from models.rankers.inputs import Fields
from models.rankers.layers import BatchNorm, Stacked, StackedNorm


class Options(RankerOptions):
    """The widths of the published network, `[ranker.heavy_ranker]`."""

    binary: tuple[str, ...] = ()
    """Numeric columns that are flags, 0 or 1."""

    field_width: int = Field(default=32, ge=1)
    """Width of the embedding of a categorical field."""

    blocks: int = Field(default=4, ge=1)
    """Parallel mask blocks."""

    aggregation: int = Field(default=1024, ge=1)
    """Width of a mask's aggregation layer."""

    block_width: int = Field(default=1024, ge=1)
    """Width of a block's output."""

    hidden: int = Field(default=2048, ge=1)
    """Width of the layer between the blocks and the towers."""

    tower: tuple[int, int] = (256, 128)
    """Widths of the hidden layers of each label's tower."""


class HeavyRanker(nn.Module):
    """Logits of every label: (B, C), (B, N), (B, 2, V) -> (B, L)."""

    mean_N: Tensor
    continuous: Tensor
    binary: Tensor

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__()
        self.spec = spec
        self.options = options
        self._register_columns()
        # Only the categories: the other two enter as they are.
        self.fields = Fields(replace(spec, numeric=(), vector_dim=0), options.field_width, 0)
        self.batch_norm = BatchNorm(len(self.continuous), momentum=0.01)
        self.number_norm = nn.LayerNorm(len(spec.numeric))
        self.field_norms = StackedNorm(self.fields.count, options.field_width)
        self.vector_norms = StackedNorm(2, spec.vector_dim)
        width = len(spec.numeric) + self.fields.count * options.field_width + 2 * spec.vector_dim
        self.blocks = HeavyBlocks(width, options)
        self.hidden = nn.Linear(options.blocks * options.block_width, options.hidden)
        xavier(self.hidden.weight, *self.hidden.weight.shape)
        nn.init.zeros_(self.hidden.bias)
        self.towers = Towers(options.hidden, options.tower, len(spec.labels))

    def _register_columns(self) -> None:
        """Row numbers of the numeric columns that are flags, and of those that are not."""
        names = self.spec.numeric
        if unknown := [name for name in self.options.binary if name not in names]:
            raise RankerError(
                f"The ranker 'heavy_ranker' has no numeric columns {unknown} to read as flags. "
                f"Set binary to some of: {', '.join(names)}."
            )
        flags = [position for position, name in enumerate(names) if name in self.options.binary]
        others = [position for position in range(len(names)) if position not in set(flags)]
        self.register_buffer("binary", torch.tensor(flags, dtype=torch.int64), persistent=False)
        self.register_buffer(
            "continuous", torch.tensor(others, dtype=torch.int64), persistent=False
        )
        self.register_buffer("mean_N", torch.zeros(len(names)))

    def initialise(self, statistics: Statistics) -> None:
        """Start the averages of the batch norm at the column's own, the towers at the log odds."""
        columns = self.continuous.cpu()
        mean_N = torch.from_numpy(statistics.log_mean_N)
        variance_N = torch.from_numpy(statistics.log_std_N) ** 2
        self.mean_N.copy_(torch.from_numpy(statistics.mean_N))
        self.batch_norm.start(mean_N[columns], variance_N[columns])
        self.towers.start(torch.from_numpy(statistics.log_odds_L))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        inputs = [
            self.numbers(numbers_BN),
            self.field_norms(self.fields(categories_BC, numbers_BN, vectors_B2V)).flatten(1),
            self.vector_norms(vectors_B2V).flatten(1),
        ]
        h_BH = self.blocks(torch.cat(inputs, dim=1))
        return self.towers(F.relu(self.hidden(h_BH)))

    def numbers(self, numbers_BN: Tensor) -> Tensor:
        """All numeric columns, scaled, flags last: (B, N)."""
        known_BN = torch.where(numbers_BN.isfinite(), numbers_BN, self.mean_N)
        x = known_BN[:, self.continuous]
        x = self.batch_norm(x.sign() * x.abs().log1p()).clamp(-5, 5)
        return self.number_norm(torch.cat([x, known_BN[:, self.binary]], dim=1))


class HeavyBlocks(nn.Module):
    """n blocks LN(W (x ⊙ m) + β), m = P₂ ReLU(P₁ x + β₁) + β₂, side by side: (B, D) -> (B, n·H)."""

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        self.count = options.blocks
        self.aggregate = xavier_stacked(self.count, width, options.aggregation)
        self.mask = xavier_stacked(self.count, options.aggregation, width)
        self.project = xavier_stacked(self.count, width, options.block_width)
        self.norm = StackedNorm(self.count, 1, options.block_width)

    def forward(self, x_BD: Tensor) -> Tensor:
        masks_nBD = self.mask(F.relu(self.aggregate(x_BD.expand(self.count, -1, -1))))
        return self.norm(self.project(x_BD * masks_nBD)).transpose(0, 1).flatten(1)


class Towers(nn.Module):
    """A small network with batch norms for every label, all of them at once: (B, H) -> (B, L)."""

    def __init__(self, in_width: int, widths: tuple[int, int], labels: int) -> None:
        super().__init__()
        first, second = widths
        self.labels = labels
        self.first = nn.Linear(in_width, labels * first)
        xavier(self.first.weight, in_width, first)
        nn.init.zeros_(self.first.bias)
        self.first_norm = BatchNorm(labels * first, affine=False)
        self.second = xavier_stacked(labels, first, second)
        self.second_norm = BatchNorm(labels * second, affine=False)
        self.last = xavier_stacked(labels, second, 1)

    def start(self, log_odds_L: Tensor) -> None:
        """Begin at these log odds."""
        assert self.last.bias is not None, "built with one"
        with torch.no_grad():
            self.last.bias.copy_(log_odds_L[:, None, None])

    def forward(self, x_BH: Tensor) -> Tensor:
        first = F.relu(self.first_norm(self.first(x_BH)))
        second_LBO = self.second(first.unflatten(1, (self.labels, -1)).transpose(0, 1))
        second = F.relu(self.second_norm(second_LBO.transpose(0, 1).flatten(1)))
        last_LB1 = self.last(second.unflatten(1, (self.labels, -1)).transpose(0, 1))
        return last_LB1[:, :, 0].T


def xavier_stacked(count: int, in_width: int, out_width: int) -> Stacked:
    """`count` linear maps that start as those of the published network do."""
    stacked = Stacked(count, in_width, out_width)
    xavier(stacked.weight, in_width, out_width)
    assert stacked.bias is not None, "built with one"
    nn.init.zeros_(stacked.bias)
    return stacked


def xavier(weight: Tensor, in_width: int, out_width: int) -> None:
    """Draw weights uniformly within ±√(6 / (in + out))."""
    bound = (6 / (in_width + out_width)) ** 0.5
    nn.init.uniform_(weight, -bound, bound)


RANKER: type[Ranker] = HeavyRanker
