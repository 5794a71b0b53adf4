"""What the masks of a ranker do to the fields of its rows: for one row, and over many.

The mask of a field is compared with its control, the same layer without that mask. Its effect on a
label is the log odds with all masks, less those where this field passes the first blocks as it is.
A ranker has masks if it has what `Masked` names, and `has_masks` is true of it.

Shapes: B rows, F fields, K width of a field, n blocks, G groups of fields, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from models.features import Batch, FeatureSpec
from models.rankers.base import Ranker
from models.training import reproducible


@runtime_checkable
class Masked(Protocol):
    """A ranker whose first blocks gate fields."""

    fields: Any  # models.rankers.inputs.Fields
    norms: Any  # a layer norm of every field
    has_masks: bool

    def field_masks(self, fields_BFK: Tensor) -> Tensor: ...  # (n, B, F, K)

    def gated(self, fields_BFK: Tensor, masked_F: Tensor | None = None) -> Tensor: ...  # (B, L)


@dataclass(frozen=True)
class Masks:
    """The masks of some rows.

    names: of the groups; all numeric columns are one. effects: log odds, (B, G, L). logits: (B, L),
    with all masks; control: (B, L), without any in the first blocks. values: the masks of every
    field in the first blocks, unmasked_layer: what they multiply, (n, B, F, K) each.
    groups: the fields of each group.
    """

    names: tuple[str, ...]
    effects: np.ndarray
    logits: np.ndarray
    control: np.ndarray
    values: np.ndarray
    unmasked_layer: np.ndarray
    groups: tuple[list[int], ...]

    @property
    def layer(self) -> np.ndarray:
        """What the first blocks read of every field: (n, B, F, K)."""
        return self.unmasked_layer * self.values


def has_masks(model: Ranker) -> bool:
    return isinstance(model, Masked) and model.has_masks


def masks_of(model: Ranker, batch: Batch) -> Masks:
    """The masks of these rows, of a ranker that has some, on the CPU."""
    assert isinstance(model, Masked), "ask has_masks first"
    groups = groups_of(model.spec, model.fields)
    inputs = map(torch.from_numpy, (batch.categories, batch.numbers, batch.vectors))
    # One thread, as everywhere: several wait for each other on a busy machine.
    with reproducible(seed=0, threads=1), torch.inference_mode():
        fields_BFK = model.fields(*inputs)
        masks_nBFK = model.field_masks(fields_BFK)
        normed_BFK = model.norms(fields_BFK)
        every_F = torch.ones(fields_BFK.shape[1], dtype=torch.bool)
        logits_BL = model.gated(fields_BFK)
        effects = []
        for places in groups.values():
            others_F = every_F.clone()
            others_F[places] = False
            effects.append(logits_BL - model.gated(fields_BFK, others_F))
        control_BL = model.gated(fields_BFK, ~every_F)
    return Masks(
        names=tuple(groups),
        effects=torch.stack(effects, dim=1).numpy(),
        logits=logits_BL.numpy(),
        control=control_BL.numpy(),
        values=masks_nBFK.numpy(),
        unmasked_layer=normed_BFK.expand_as(masks_nBFK).numpy(),
        groups=tuple(groups.values()),
    )


def groups_of(spec: FeatureSpec, fields: Any) -> dict[str, list[int]]:
    """Name of a group -> its fields, in the order of `models.rankers.inputs.Fields`."""
    groups = {name: [place] for place, name in enumerate(spec.fields)}
    first = fields.n_categorical
    if fields.n_numeric:
        groups["numbers"] = list(range(first, first + fields.n_numeric))
    if fields.n_published:
        first += fields.n_numeric
        for place, name in enumerate(("consumer vector", "producer vector", "their product")):
            groups[name] = [first + place]
    return groups
