"""The input layer that rankers share: every feature as a field of one width.

Shapes: B batch, C categorical columns, N numeric columns, V length of a published vector,
K width of a field, F fields.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Statistics


class Fields(nn.Module):
    """Every input as fields of one width: (B, C), (B, N), (B, 2, V) -> (B, F, K).

    The fields are, in this order: one per categorical field (columns of one field are summed),
    `number_fields` projections of all numeric columns, then consumer, producer, and the
    element-wise product of their vectors. A published vector of zeros means "no vector".
    """

    mean_N: Tensor
    std_N: Tensor
    offset_C: Tensor
    field_C: Tensor

    def __init__(self, spec: FeatureSpec, width: int, number_fields: int) -> None:
        super().__init__()
        self.width = width
        self.n_categorical = len(spec.fields)
        self.n_numeric = number_fields
        sizes = []
        fields = []
        for column in spec.categorical:
            sizes.append(column.buckets)
            fields.append(spec.fields.index(column.field))
        buckets = torch.tensor(sizes, dtype=torch.int64)
        # One table for all columns: column c owns the rows from offset_C[c] on.
        self.table = nn.Embedding(int(buckets.sum()), width)
        nn.init.normal_(self.table.weight, std=0.01)
        self.numbers = nn.Linear(len(spec.numeric), number_fields * width)
        self.consumer = nn.Linear(spec.vector_dim, width)
        self.producer = nn.Linear(spec.vector_dim, width)
        self.product = nn.Linear(spec.vector_dim, width)
        # From zero, vectors change nothing until something is learned about them. From random
        # weights, they would disturb what was learned on the days of an older space, without any.
        for projection in (self.consumer, self.producer, self.product):
            nn.init.zeros_(projection.weight)
        # Learned stand-ins for a missing consumer vector and a missing producer vector.
        self.unknown = nn.Parameter(torch.zeros(2, spec.vector_dim))
        self.register_buffer("mean_N", torch.zeros(len(spec.numeric)))
        self.register_buffer("std_N", torch.ones(len(spec.numeric)))
        self.register_buffer("offset_C", buckets.cumsum(0) - buckets, persistent=False)
        self.register_buffer("field_C", torch.tensor(fields, dtype=torch.int64), persistent=False)

    @property
    def count(self) -> int:
        """F, the number of fields."""
        return self.n_categorical + self.n_numeric + 3

    def initialise(self, statistics: Statistics) -> None:
        """Standardise the numeric columns with these means and standard deviations."""
        self.mean_N.copy_(torch.from_numpy(statistics.mean_N))
        self.std_N.copy_(torch.from_numpy(statistics.std_N))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        parts = [
            self.categorical(categories_BC),
            self.numeric(numbers_BN),
            self.published(vectors_B2V),
        ]
        return torch.cat(parts, dim=1)

    def categorical(self, categories_BC: Tensor) -> Tensor:
        """The sum of the embeddings of each field's columns: (B, fields, K)."""
        embedded_BCK = self.table(categories_BC + self.offset_C)
        sums_BFK = embedded_BCK.new_zeros(len(embedded_BCK), self.n_categorical, self.width)
        return sums_BFK.index_add_(1, self.field_C, embedded_BCK)

    def numeric(self, numbers_BN: Tensor) -> Tensor:
        """Projections of the standardised numbers: (B, fields, K). NaN counts as the mean."""
        standard_BN = torch.nan_to_num((numbers_BN - self.mean_N) / self.std_N).clamp(-5, 5)
        return self.numbers(standard_BN).unflatten(1, (self.n_numeric, self.width))

    def published(self, vectors_B2V: Tensor) -> Tensor:
        """Consumer, producer and their element-wise product: (B, 3, K)."""
        # Every vector has length √V: the norm shows only activity, which the past counts show too.
        unit_B2V = F.normalize(vectors_B2V, dim=2) * vectors_B2V.shape[2] ** 0.5
        known_B21 = vectors_B2V.any(dim=2, keepdim=True)
        u_BV, p_BV = torch.where(known_B21, unit_B2V, self.unknown).unbind(1)
        fields = [self.consumer(u_BV), self.producer(p_BV), self.product(u_BV * p_BV)]
        return torch.stack(fields, dim=1)


class FieldNorms(nn.Module):
    """A layer norm per field, each with its own scale and shift: (B, F, K) -> (B, F, K).

    LN-EMB of arXiv:2102.07619, Eq. 6, for all fields in one call.
    """

    def __init__(self, fields: int, width: int) -> None:
        super().__init__()
        self.scale_FK = nn.Parameter(torch.ones(fields, width))
        self.shift_FK = nn.Parameter(torch.zeros(fields, width))

    def forward(self, x_BFK: Tensor) -> Tensor:
        return F.layer_norm(x_BFK, x_BFK.shape[2:]) * self.scale_FK + self.shift_FK
