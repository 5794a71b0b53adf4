"""Metrics of scores where the model is: on its device, in float64, by label and by bucket of users.

They are those of `embeddings.benchmarks.auc`, `models.metrics` and `models.calibration`, but for
the rounding of sums, and NaN in the same places. Those need no torch, and the gate's intervals need
an AUC of weighted rows.

Shapes: n rows, U users.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.calibration import BINS
from models.metrics import CLIP
from models.training import device

TOP = 5  # of the rows of a user, by score
# The least rows of a user, and the name of the bucket.
BUCKETS = ((1, "1"), (2, "2-4"), (5, "5-9"), (10, "10-19"), (20, "20+"))
ALL = "all"
METRICS = ("auc", "log_loss", "rce", "nrce", "ece", f"ndcg_{TOP}")


def auc(labels: Tensor, scores: Tensor) -> Tensor:
    """ROC-AUC where a tie counts half: (n,), (n,) -> (). NaN unless both classes occur."""
    order = torch.argsort(scores, stable=True)
    positive = (labels[order] > 0).double()
    # Equal scores form a run, and all pairs within it count half.
    values, run = torch.unique_consecutive(scores[order], return_inverse=True)
    positives = sums(positive, run, len(values))
    negatives = sums(1 - positive, run, len(values))
    below = negatives.cumsum(0) - negatives / 2
    return (positives * below).sum() / (positives.sum() * negatives.sum())


def log_loss(labels: Tensor, probabilities: Tensor) -> Tensor:
    """Mean of −log p(label), in nats, of probabilities clipped to [CLIP, 1 − CLIP]: ()."""
    p = probabilities.double().clamp(CLIP, 1 - CLIP)
    return -torch.where(labels > 0, p.log(), torch.log1p(-p)).mean()


def rce(labels: Tensor, probabilities: Tensor) -> Tensor:
    """As `models.metrics.relative_cross_entropy`: ()."""
    rate = (labels > 0).double().mean()
    relative = 100 * (1 - log_loss(labels, probabilities) / log_loss(labels, rate))
    return torch.where((rate > 0) & (rate < 1), relative, torch.nan)


def nrce(labels: Tensor, probabilities: Tensor) -> Tensor:
    """As `models.metrics.normalised_rce`: ()."""
    p = probabilities.double()
    return rce(labels, p * (labels > 0).double().mean() / p.mean())


def ece(labels: Tensor, probabilities: Tensor, bins: int = BINS) -> Tensor:
    """As `models.calibration.ece`: ()."""
    n = len(labels)
    if not n:
        return probabilities.new_tensor(torch.nan, dtype=torch.float64)
    bins = min(bins, n)
    order = torch.argsort(probabilities, stable=True)
    # The first bins have one row more, where the rows are no multiple of the bins.
    short, longer = divmod(n, bins)
    place = torch.arange(n, device=labels.device)
    within = place < longer * (short + 1)
    bin_n = torch.where(within, place // (short + 1), (place - longer) // short)
    gaps = probabilities[order].double() - (labels[order] > 0).double()
    return sums(gaps, bin_n, bins).abs().sum() / n


def ndcg(users: Tensor, labels: Tensor, scores: Tensor, top: int = TOP) -> Tensor:
    """As `models.metrics.ndcg`: (). users: (n,) int64."""
    _, user, rows = torch.unique(users, return_inverse=True, return_counts=True)
    gained = gains(user, labels, -scores, rows, top)
    ideal = gains(user, labels, -labels, rows, top)
    positives = sums((labels > 0).double(), user, len(rows))
    both = (positives > 0) & (positives < rows)
    return (gained[both] / ideal[both]).mean()


def gains(user: Tensor, labels: Tensor, keys: Tensor, rows: Tensor, top: int) -> Tensor:
    """DCG of each user's `top` rows by ascending key: (U,). user: (n,) from 0; rows: (U,)."""
    by_key = torch.argsort(keys, stable=True)
    order = by_key[torch.argsort(user[by_key], stable=True)]
    first = rows.cumsum(0) - rows
    rank = torch.arange(len(order), device=user.device) - first[user[order]]
    gain = (labels[order] > 0) / torch.log2(rank.double() + 2)
    return sums(torch.where(rank < top, gain, 0.0), user[order], len(rows))


def sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """The sum of each group: (groups,) float64. values, group: (n,)."""
    total = torch.zeros(groups, dtype=torch.float64, device=values.device)
    return total.index_add_(0, group, values)


def metrics_of(users: Tensor, labels: Tensor, scores: Tensor) -> dict[str, float]:
    """All METRICS of one label, without the undefined ones. (n,) each."""
    values = (
        auc(labels, scores),
        log_loss(labels, scores),
        rce(labels, scores),
        nrce(labels, scores),
        ece(labels, scores),
        ndcg(users, labels, scores),
    )
    found = dict(zip(METRICS, torch.stack(values).tolist(), strict=True))
    return {name: value for name, value in found.items() if not np.isnan(value)}


def rows_of_metrics(
    users: np.ndarray, labels: np.ndarray, scores: np.ndarray, names: tuple[str, ...]
) -> Iterator[dict[str, str | float]]:
    """The metrics of every label, of all users and of those with as many rows as a bucket says.

    users: (n,) of any type; labels 0/1, scores: (n, labels). Yields users (the bucket), label, rows
    and the defined metrics. A bucket without rows is left out.
    """
    _, code, rows = np.unique(users, return_inverse=True, return_counts=True)
    lowest = np.array([least for least, _ in BUCKETS])
    bucket_n = np.searchsorted(lowest, rows, side="right")[code] - 1
    places = [(ALL, np.arange(len(users)))]
    for number, (_, name) in enumerate(BUCKETS):
        places.append((name, np.flatnonzero(bucket_n == number)))
    to = device()
    code_n = torch.from_numpy(code).to(to)
    labels_nL = torch.from_numpy(labels).to(to)
    scores_nL = torch.from_numpy(scores).to(to)
    for bucket, chosen in places:
        if not len(chosen):
            continue
        at = torch.from_numpy(chosen).to(to)
        for column, name in enumerate(names):
            parts = (code_n[at], labels_nL[at, column], scores_nL[at, column])
            row: dict[str, str | float] = {"users": bucket, "label": name, "rows": len(chosen)}
            row.update(metrics_of(*parts))
            yield row
