"""DeepFM: a factorisation machine and a network on the same fields.

Source: Guo et al.: DeepFM, IJCAI 2017, arXiv:1703.04247. Several labels as in `fm`.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import DeepOptions, OnFields
from models.rankers.layers import PairProducts, perceptron


class Options(DeepOptions):
    """The options of DeepFM, `[ranker.deepfm]`."""


class DeepFM(OnFields):
    """The sum of the logits of a factorisation machine and of a network."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options, first_order=True)
        self.pairs = PairProducts(options.field_width, len(spec.labels))
        self.hidden = perceptron([self.width, *options.hidden], options.dropout)
        self.heads = nn.Linear(options.hidden[-1], len(spec.labels), bias=False)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        return self.pairs(fields_BFK) + self.heads(self.hidden(fields_BFK.flatten(1)))


RANKER: type[Ranker] = DeepFM
