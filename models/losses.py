"""The losses that the heads are trained with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def label_losses(logits_BL: Tensor, labels_BL: Tensor, rows: int | None = None) -> Tensor:
    """Binary cross-entropy of each label, mean over the batch: (L,), in nats.

    Their sum is the training loss. A rare label adds little to it: its entropy is small. rows: of
    the batch that these are a share of; the losses of all shares sum up to the mean.
    """
    losses_BL = F.binary_cross_entropy_with_logits(logits_BL, labels_BL, reduction="none")
    return losses_BL.mean(dim=0) if rows is None else losses_BL.sum(dim=0) / rows
