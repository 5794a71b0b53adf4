"""The losses that the heads are trained with."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def label_losses(
    logits_BL: Tensor, labels_BL: Tensor, rows: int | None = None, negatives_kept: float = 1.0
) -> Tensor:
    """Binary cross-entropy of each label, mean over the batch: (L,), in nats.

    Their sum is the training loss. A rare label adds little to it: its entropy is small. rows: of
    the batch that these are a share of; the losses of all shares sum up to the mean.

    negatives_kept: the share of the negatives that are trained on, r; below 1, a label of NaN does
    not count. The logits stay those of the whole log. Among the rows that are trained on, the odds
    of p are p / (r (1 − p)), so that the loss is that of the logits − log r.
    Source: He et al.: Practical Lessons from Predicting Clicks on Ads at Facebook, 2014, § 6.3.
    """
    weights_BL = None
    if negatives_kept < 1:
        weights_BL = (~labels_BL.isnan()).to(labels_BL.dtype)
        labels_BL = labels_BL.nan_to_num()
        logits_BL = logits_BL - math.log(negatives_kept)
    losses_BL = F.binary_cross_entropy_with_logits(
        logits_BL, labels_BL, weights_BL, reduction="none"
    )
    return losses_BL.mean(dim=0) if rows is None else losses_BL.sum(dim=0) / rows
