"""Two streams on the same fields: MaskNet, and the quadratic layers of QNN-α.

Sources: see `masknet` and `qnn`. Both multiply a layer with what the example itself computes. A
mask of MaskNet is free, and a hidden layer follows the product; that of QNN-α is a sum of ReLU
maps, and products of products reach a higher degree.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from models.features import FeatureSpec
from models.rankers import masknet, qnn
from models.rankers.base import Ranker


class Options(masknet.Options):
    """The options of both streams, `[ranker.mask_qnn]`."""

    layers: int = Field(default=2, ge=1)
    """Quadratic layers."""

    maps: int = Field(default=4, ge=1)
    """ReLU maps that a quadratic layer sums up."""


class MaskQNN(masknet.MaskNet):
    """The sum of the logits of both streams: (B, C), (B, N), (B, 2, V) -> (B, L)."""

    def __init__(self, spec: FeatureSpec, options: Options) -> None:
        super().__init__(spec, options)
        width = self.fields.count * options.field_width
        layers = []
        for _ in range(options.layers):
            layers.append(qnn.Quadratic(width, options.maps, options.dropout))
        self.quadratic = nn.Sequential(*layers, nn.Linear(width, len(spec.labels), bias=False))

    def gated(self, fields_BFK: Tensor, masked_F: Tensor | None = None) -> Tensor:
        """As of MaskNet: (B, L)."""
        return super().gated(fields_BFK, masked_F) + self.quadratic(fields_BFK.flatten(1))


RANKER: type[Ranker] = MaskQNN
