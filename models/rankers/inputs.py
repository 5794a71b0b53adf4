"""The input layer that rankers share: every feature as a field of one width.

Shapes: B batch, C categorical columns, N numeric columns, V length of a published vector,
K width of a field, F fields.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import RankerOptions, Statistics
from models.sharded_table import new_table


class FieldOptions(RankerOptions):
    """The options of `Fields`, which most rankers have."""

    field_width: int = Field(default=8, ge=1)
    """K, length of the vector of one field."""

    number_fields: int = Field(default=4, ge=1)
    """Fields that all numeric columns together are projected to."""


class DeepOptions(FieldOptions):
    """The options of rankers with hidden layers on fields."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(128, 64), min_length=1)
    """Widths of the hidden layers."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the outputs of a hidden layer that a training step leaves out."""


class Fields(nn.Module):
    """Every input as fields of one width: (B, C), (B, N), (B, 2, V) -> (B, F, K).

    The fields are, in this order: one per categorical field (columns of one field are summed),
    `number_fields` projections of all numeric columns, then consumer, producer, and the
    element-wise product of their vectors. Without numeric columns, or without vectors (V = 0),
    there are no such fields. A published vector of zeros means "no vector".
    """

    mean_N: Tensor
    std_N: Tensor
    offset_C: Tensor
    field_C: Tensor
    row_of_R: Tensor | None  # R buckets of all columns; None where each has a row

    def __init__(self, spec: FeatureSpec, width: int, number_fields: int) -> None:
        super().__init__()
        self.width = width
        self.n_categorical = len(spec.fields)
        self.n_numeric = number_fields if spec.numeric else 0
        self.n_published = 3 if spec.vector_dim else 0
        sizes = []
        rows = []
        fields = []
        for column in spec.categorical:
            sizes.append(column.buckets)
            rows.append(column.buckets if column.rows is None else column.rows)
            fields.append(spec.fields.index(column.field))
        buckets = torch.tensor(sizes, dtype=torch.int64)
        # One table for all columns, whose rows lie side by side. Its gradient lists the rows that
        # were read, so a larger table does not make a training step slower.
        self.table = new_table(sum(rows), width)
        # Bucket b of column c is bucket offset_C[c] + b of all; it has the row of this number, or
        # the one that `row_of_R` says.
        admits = any(column.rows is not None for column in spec.categorical)
        row_of_R = torch.zeros(sum(sizes), dtype=torch.int32) if admits else None
        self.register_buffer("row_of_R", row_of_R)
        if self.n_numeric:
            self.numbers = nn.Linear(len(spec.numeric), self.n_numeric * width)
        if self.n_published:
            self._project_vectors(spec.vector_dim)
        self.register_buffer("mean_N", torch.zeros(len(spec.numeric)))
        self.register_buffer("std_N", torch.ones(len(spec.numeric)))
        self.register_buffer("offset_C", buckets.cumsum(0) - buckets, persistent=False)
        self.register_buffer("field_C", torch.tensor(fields, dtype=torch.int64), persistent=False)

    def _project_vectors(self, dim: int) -> None:
        self.consumer = nn.Linear(dim, self.width)
        self.producer = nn.Linear(dim, self.width)
        self.product = nn.Linear(dim, self.width)
        # From zero, vectors change nothing until something is learned about them. From random
        # weights, they would disturb what was learned on the days of an older space, without any.
        for projection in (self.consumer, self.producer, self.product):
            nn.init.zeros_(projection.weight)
        # Learned stand-ins for a missing consumer vector and a missing producer vector.
        self.unknown = nn.Parameter(torch.zeros(2, dim))

    @property
    def count(self) -> int:
        """F, the number of fields."""
        return self.n_categorical + self.n_numeric + self.n_published

    def initialise(self, statistics: Statistics) -> None:
        """Standardise the numeric columns with these means and standard deviations."""
        self.mean_N.copy_(torch.from_numpy(statistics.mean_N))
        self.std_N.copy_(torch.from_numpy(statistics.std_N))

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        parts = [self.categorical(categories_BC)]
        if self.n_numeric:
            projected = self.numbers(self.standardised(numbers_BN))
            parts.append(projected.unflatten(1, (self.n_numeric, self.width)))
        if self.n_published:
            parts.append(self.published(vectors_B2V))
        return torch.cat(parts, dim=1)  # (B, F, K)

    def categorical(self, categories_BC: Tensor) -> Tensor:
        """The sum of the embeddings of each field's columns: (B, fields, K)."""
        rows_BC = categories_BC + self.offset_C
        if self.row_of_R is not None:
            rows_BC = self.row_of_R[rows_BC].long()
        embedded_BCK = self.table(rows_BC)
        if self.n_categorical == len(self.offset_C):  # one column a field: there is nothing to sum
            return embedded_BCK
        sums_BFK = embedded_BCK.new_zeros(embedded_BCK.shape[0], self.n_categorical, self.width)
        return sums_BFK.index_add_(1, self.field_C, embedded_BCK)

    def standardised(self, numbers_BN: Tensor) -> Tensor:
        """The numbers less their means, in standard deviations: (B, N). NaN counts as the mean."""
        return torch.nan_to_num((numbers_BN - self.mean_N) / self.std_N).clamp(-5, 5)

    def published(self, vectors_B2V: Tensor) -> Tensor:
        """Consumer, producer and their element-wise product: (B, 3, K)."""
        # Every vector has length √V: the norm shows only activity, which the past counts show too.
        unit_B2V = F.normalize(vectors_B2V, dim=2) * vectors_B2V.shape[2] ** 0.5
        known_B21 = vectors_B2V.any(dim=2, keepdim=True)
        u_BV, p_BV = torch.where(known_B21, unit_B2V, self.unknown).unbind(1)
        fields = [self.consumer(u_BV), self.producer(p_BV), self.product(u_BV * p_BV)]
        return torch.stack(fields, dim=1)


class OnFields(nn.Module):
    """Base of the rankers that read nothing but fields.

    A subclass defines `interact`. What it returns is added to the log odds of every label, with
    which training starts: otherwise the first steps would be spent on how rare each label is.
    """

    options: Any  # the `Options` of the subclass

    def __init__(self, spec: FeatureSpec, options: FieldOptions, first_order: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.options = options
        self.fields = Fields(spec, options.field_width, options.number_fields)
        self.width = self.fields.count * options.field_width  # of all fields side by side
        self.first_order = FirstOrder(spec) if first_order else None
        self.bias_L = nn.Parameter(torch.zeros(len(spec.labels)))

    def initialise(self, statistics: Statistics) -> None:
        """Scale the numbers; start every label at its log odds."""
        for module in self.modules():
            if isinstance(module, Fields):
                module.initialise(statistics)
        with torch.no_grad():
            self.bias_L.copy_(torch.from_numpy(statistics.log_odds_L))

    def interact(self, fields_BFK: Tensor) -> Tensor:
        """(B, F, K) -> (B, L)."""
        raise NotImplementedError

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        inputs = (categories_BC, numbers_BN, vectors_B2V)
        logits_BL = self.interact(self.fields(*inputs)) + self.bias_L
        if self.first_order is not None:
            logits_BL = logits_BL + self.first_order(*inputs)
        return logits_BL


class FirstOrder(nn.Module):
    """Σ w·x with one weight per label of every category, number and vector entry: (B, L).

    These are fields as wide as there are labels. One of them is the product of the two vectors.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.fields = Fields(spec, len(spec.labels), number_fields=1)

    def forward(self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor) -> Tensor:
        return self.fields(categories_BC, numbers_BN, vectors_B2V).sum(dim=1)
