"""What the heads are trained to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def label_losses(logits_BL: Tensor, labels_BL: Tensor) -> Tensor:
    """Binary cross-entropy of each label, mean over the batch: (L,).

    Their sum is the training loss. A rare label weighs little in it by itself: its entropy is small.
    """
    return F.binary_cross_entropy_with_logits(logits_BL, labels_BL, reduction="none").mean(dim=0)
