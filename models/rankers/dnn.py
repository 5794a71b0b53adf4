"""A plain network: all fields side by side through hidden layers."""

from __future__ import annotations

from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import DeepOptions, OnFields
from models.rankers.layers import perceptron


class Options(DeepOptions):
    """The options of the plain network, `[ranker.dnn]`."""


class Network(OnFields):
    """ReLU layers on the fields, and one linear head per label."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        self.hidden = perceptron([self.width, *options.hidden], options.dropout)
        self.heads = nn.Linear(options.hidden[-1], len(spec.labels), bias=False)

    def interact(self, fields_BFK: Tensor) -> Tensor:
        return self.heads(self.hidden(fields_BFK.flatten(1)))


RANKER: type[Ranker] = Network
