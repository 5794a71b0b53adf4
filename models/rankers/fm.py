"""Factorisation machine: the first order, and the scalar products of all pairs of fields.

Source: Rendle: Factorization Machines, ICDM 2010. Not in the paper: several labels share the
vectors, and each weighs their K dimensions by its own weights, which start at one.
"""

from __future__ import annotations

from torch import Tensor

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import FieldOptions, OnFields
from models.rankers.layers import PairProducts


class Options(FieldOptions):
    """The options of the factorisation machine, `[ranker.fm]`."""


class FactorisationMachine(OnFields):
    """w₀ + Σ w x + Σ_{i<j} ⟨vᵢ, vⱼ⟩."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options, first_order=True)
        self.pairs = PairProducts(options.field_width, len(spec.labels))

    def interact(self, fields_BFK: Tensor) -> Tensor:
        return self.pairs(fields_BFK)


RANKER: type[Ranker] = FactorisationMachine
