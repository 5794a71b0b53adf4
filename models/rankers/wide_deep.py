"""Wide & Deep: a linear model and a network, trained together.

Source: Cheng et al.: Wide & Deep Learning for Recommender Systems, DLRS 2016, arXiv:1606.07792.
The product of the two published vectors is the only crossed feature of the wide part.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import DeepOptions, OnFields
from models.rankers.layers import perceptron


class Options(DeepOptions):
    """The options of Wide & Deep, `[ranker.wide_deep]`."""


class WideDeep(OnFields):
    """The sum of the logits of a linear model and of a network."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options, first_order=True)
        self.hidden = perceptron([self.width, *options.hidden], options.dropout)
        self.heads = nn.Linear(options.hidden[-1], len(spec.labels), bias=False)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        return self.heads(self.hidden(fields_BFK.flatten(1)))


RANKER: type[Ranker] = WideDeep
