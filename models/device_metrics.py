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
    """ROC-AUC where a tie counts half: (n,), (n,) -> (). NaN unless both classes occur.

    Rows in ascending order of their scores.
    """
    # Equal scores form a run, and all pairs within it count half.
    _, rows = torch.unique_consecutive(scores, return_counts=True)
    up_to_run = (labels > 0).cumsum(0)[rows.cumsum(0) - 1]  # positives
    positives = up_to_run.diff(prepend=up_to_run.new_zeros(1)).double()
    negatives = rows - positives
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
    """As `models.calibration.ece`: (). Rows in ascending order of their probabilities."""
    gaps = probabilities.double() - (labels > 0).double()
    of_bins = [each.sum() for each in torch.tensor_split(gaps, min(bins, len(gaps)))]
    return torch.stack(of_bins).abs().sum() / len(gaps)


def ndcg_by_user(
    user: Tensor, labels: Tensor, scores: Tensor, rows: Tensor, top: int = TOP
) -> Tensor:
    """As `models.metrics.ndcg`, of each user: (U,). NaN for one without both classes.

    user: (n,) from 0; rows: (U,) of each.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(user[order], stable=True)]
    user, positive = user[order], labels[order] > 0
    first = rows.cumsum(0) - rows
    rank = torch.arange(len(order), device=user.device).sub_(first[user])
    del order  # as large as all others together
    of_top = rank < top
    gain = positive[of_top] / torch.log2(rank[of_top].double() + 2)
    gained = sums(gain, user[of_top], len(rows))
    positives = sums(positive.double(), user, len(rows)).long()
    both = (positives > 0) & (positives < rows)
    # The best order has the positives first.
    ideal = (1 / torch.log2(torch.arange(top, device=user.device).double() + 2)).cumsum(0)
    best = ideal[(positives - 1).clamp(0, top - 1)]
    return torch.where(both, gained / best, torch.nan)


def sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """The sum of each group: (groups,) float64. values, group: (n,)."""
    total = torch.zeros(groups, dtype=torch.float64, device=values.device)
    return total.index_add_(0, group, values)


def metrics_of(labels: Tensor, scores: Tensor, ndcgs: Tensor) -> dict[str, float]:
    """All METRICS of one label, without the undefined ones.

    labels, scores: (n,), n >= 1, in ascending order of the scores; ndcgs: (U,), of each user.
    """
    values = (
        auc(labels, scores),
        log_loss(labels, scores),
        rce(labels, scores),
        nrce(labels, scores),
        ece(labels, scores),
        torch.nanmean(ndcgs),
    )
    found = dict(zip(METRICS, torch.stack(values).tolist(), strict=True))
    return {name: value for name, value in found.items() if not np.isnan(value)}


def rows_of_metrics(
    users: np.ndarray, labels: np.ndarray, scores: np.ndarray, names: tuple[str, ...]
) -> Iterator[dict[str, str | float]]:
    """The metrics of every label, of all users and of those with as many rows as a bucket says.

    users: (n,) int64, from 0 without gaps; labels 0/1, scores: (n, labels). Yields users (the
    bucket), label, rows and the defined metrics. A bucket without rows is left out.
    """
    to = device()
    rows_U = np.bincount(users)
    lowest = np.array([least for least, _ in BUCKETS])
    bucket_U = torch.from_numpy(np.searchsorted(lowest, rows_U, side="right") - 1).to(to)
    rows, user = torch.from_numpy(rows_U).to(to), torch.from_numpy(users).to(to)
    buckets = [(ALL, torch.ones_like(bucket_U, dtype=torch.bool))]
    for number, (_, name) in enumerate(BUCKETS):
        buckets.append((name, bucket_U == number))
    for column, label in enumerate(names):
        happened = torch.from_numpy(np.ascontiguousarray(labels[:, column])).to(to)
        score = torch.from_numpy(np.ascontiguousarray(scores[:, column])).to(to)
        # Sorted once: a part of the rows is in order, too.
        order = torch.argsort(score, stable=True)
        ndcgs = ndcg_by_user(user, happened, score, rows)
        for name, members in buckets:
            # Not copied for all users: these rows take most of the memory.
            kept = order if name == ALL else order[members[user[order]]]
            if not len(kept):
                continue
            row: dict[str, str | float] = {"users": name, "label": label, "rows": len(kept)}
            row.update(metrics_of(happened[kept], score[kept], ndcgs[members]))
            yield row
