"""Log loss and relative cross-entropy of weighted rows, for a bootstrap by consumer."""

from __future__ import annotations

import numpy as np

from embeddings.benchmarks.intervals import weighted_mean
from models.metrics import CLIP


def log_losses(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Weighted mean of −log p(label), in nats. labels 0/1: (n,), weights: (..., n). Returns (...).

    As `models.metrics.log_loss`, which has no weights.
    """
    p = np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP)
    return weighted_mean(-np.where(labels > 0, np.log(p), np.log1p(-p)), weights)


def rces(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """RCE = 100 · (1 − log loss / log loss of predicting the weighted rate of the labels), %.

    NaN where the rows with a weight are of one class. Shapes as of `log_losses`.
    """
    rate = np.asarray(weighted_mean((labels > 0).astype(np.float64), weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        of_rate = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return 100 * (1 - log_losses(labels, probabilities, weights) / of_rate)
