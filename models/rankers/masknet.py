"""Parallel MaskNet: every example gates its own features.

Source: Wang, She, Zhang: MaskNet, DLP-KDD 2021, arXiv:2102.07619. Ours on top: the published vectors of consumer and
producer enter as three fields (consumer, producer, their element-wise product), and there is one head a label.

Shapes: B batch, C categorical columns, N numeric columns, V length of a published vector, K width of a field,
F fields, E = F·K all fields side by side, D features to gate, H output of a block, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import FeatureSpec


@dataclass(frozen=True)
class MaskNetConfig:
    """Widths of the network."""

    field_width: int = 8  # K, length of the vector of one field
    number_fields: int = 4  # fields that the numeric columns are projected to
    blocks: int = 3  # mask blocks side by side
    ratio: float = 2.0  # width of a mask's aggregation layer over that of its projection
    block_width: int = 64  # H
    hidden: tuple[int, ...] = (64,)  # layers between the blocks and the heads


class MaskBlock(nn.Module):
    """h = ReLU(LN(W (x ⊙ m))), with the instance-guided mask m = P₂ ReLU(P₁ e): (B, D), (B, E) -> (B, H). Eq. 3–9."""

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


class Fields(nn.Module):
    """Every input as fields of one width: (B, F, K). A published vector of zeros says that there is none."""

    mean_N: Tensor
    std_N: Tensor
    offset_C: Tensor
    field_C: Tensor

    def __init__(self, spec: FeatureSpec, cfg: MaskNetConfig) -> None:
        super().__init__()
        buckets = torch.tensor([c.buckets for c in spec.categorical], dtype=torch.int64)
        fields = [spec.fields.index(c.field) for c in spec.categorical]
        self.width, self.n_categorical, self.n_numeric = (
            cfg.field_width,
            len(spec.fields),
            cfg.number_fields,
        )
        self.table = nn.Embedding(
            int(buckets.sum()), cfg.field_width
        )  # all columns' tables, one below the other
        nn.init.normal_(self.table.weight, std=0.01)
        self.numbers = nn.Linear(len(spec.numeric), cfg.number_fields * cfg.field_width)
        self.consumer = nn.Linear(spec.vector_dim, cfg.field_width)
        self.producer = nn.Linear(spec.vector_dim, cfg.field_width)
        self.product = nn.Linear(spec.vector_dim, cfg.field_width)
        self.unknown = nn.Parameter(
            torch.zeros(2, spec.vector_dim)
        )  # stands in for a vector of zeros
        self.register_buffer("mean_N", torch.zeros(len(spec.numeric)))
        self.register_buffer("std_N", torch.ones(len(spec.numeric)))
        self.register_buffer("offset_C", buckets.cumsum(0) - buckets, persistent=False)
        self.register_buffer("field_C", torch.tensor(fields, dtype=torch.int64), persistent=False)

    @property
    def count(self) -> int:
        """F."""
        return self.n_categorical + self.n_numeric + 3

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        embedded_BCK = self.table(categories_BC + self.offset_C)
        categorical_BFK = embedded_BCK.new_zeros(len(embedded_BCK), self.n_categorical, self.width)
        categorical_BFK.index_add_(1, self.field_C, embedded_BCK)
        standard_BN = torch.nan_to_num((numbers_BN - self.mean_N) / self.std_N).clamp(-5, 5)
        numeric_BFK = self.numbers(standard_BN).unflatten(1, (self.n_numeric, self.width))
        # Only the direction is taken: the norm tells who is active, and the numbers tell that.
        unit_B2V = F.normalize(vectors_B2V, dim=2) * vectors_B2V.shape[2] ** 0.5
        u_BV, p_BV = torch.where(
            vectors_B2V.any(dim=2, keepdim=True), unit_B2V, self.unknown
        ).unbind(1)
        published_B3K = torch.stack(
            [self.consumer(u_BV), self.producer(p_BV), self.product(u_BV * p_BV)], dim=1
        )
        return torch.cat([categorical_BFK, numeric_BFK, published_B3K], dim=1)


class FieldNorms(nn.Module):
    """A layer norm for every field, with its own scale and shift, all at once: (B, F, K) -> (B, F, K). LN-EMB."""

    def __init__(self, fields: int, width: int) -> None:
        super().__init__()
        self.scale_FK = nn.Parameter(torch.ones(fields, width))
        self.shift_FK = nn.Parameter(torch.zeros(fields, width))

    def forward(self, x_BFK: Tensor) -> Tensor:
        return F.layer_norm(x_BFK, x_BFK.shape[2:]) * self.scale_FK + self.shift_FK


class MaskNet(nn.Module):
    """Logits of every label: inputs of `Fields` -> (B, L)."""

    def __init__(self, spec: FeatureSpec, cfg: MaskNetConfig) -> None:
        super().__init__()
        self.spec, self.cfg = spec, cfg
        self.fields = Fields(spec, cfg)
        embed_width = self.fields.count * cfg.field_width
        self.norms = FieldNorms(self.fields.count, cfg.field_width)
        self.blocks = nn.ModuleList(
            MaskBlock(embed_width, embed_width, cfg.block_width, cfg.ratio)
            for _ in range(cfg.blocks)
        )
        widths = [cfg.blocks * cfg.block_width, *cfg.hidden]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.hidden = nn.Sequential(*layers)
        self.heads = nn.Linear(widths[-1], len(spec.labels))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        fields_BFK = self.fields(categories_BC, numbers_BN, vectors_B2V)
        normed_BE, e_BE = self.norms(fields_BFK).flatten(1), fields_BFK.flatten(1)
        h_BH = torch.cat(
            [block(normed_BE, e_BE) for block in self.blocks], dim=1
        )  # H of every block, side by side
        return self.heads(self.hidden(h_BH))  # (B, L)
