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

from models.blocks import BLOCK
from models.calibration import BINS
from models.metrics import CLIP
from models.ordering import ascending
from models.transfer import device

TOP = 5  # of the rows of a user, by score
# The least rows of a user, and the name of the bucket.
BUCKETS = ((1, "1"), (2, "2-4"), (5, "5-9"), (10, "10-19"), (20, "20+"))
ALL = "all"
METRICS = ("auc", "log_loss", "rce", "nrce", "ece", f"ndcg_{TOP}")


def auc(labels: Tensor, scores: Tensor) -> Tensor:
    """ROC-AUC where a tie counts half: (n,), (n,) -> (). NaN unless both classes occur.

    Rows in ascending order of their scores.
    """
    positive = labels > 0
    positives, negatives = scores[positive], scores[~positive]
    # Of each positive, the negatives below it, and those not above it: a tie is in one of them.
    below = torch.searchsorted(negatives, positives, out_int32=True).sum()
    not_above = torch.searchsorted(negatives, positives, right=True, out_int32=True).sum()
    return (below + not_above).double() / 2 / (len(positives) * len(negatives))


def log_loss(labels: Tensor, probabilities: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """Mean of −log p(label), in nats, with p clipped to [CLIP, 1 − CLIP]: ().

    p: factor · probabilities.
    """
    total = torch.zeros((), dtype=torch.float64, device=labels.device)
    for label, probability in zip(pieces(labels), pieces(probabilities), strict=True):
        p = (probability.double() * factor).clamp(CLIP, 1 - CLIP)
        # One logarithm a row instead of two: 1 − p is exact from ½ on, right to 1e-16 below.
        total -= torch.where(label > 0, p, 1 - p).log().sum()
    return total / len(labels)


def rce(labels: Tensor, loss: Tensor) -> Tensor:
    """As `models.metrics.relative_to_rate`: ()."""
    rate = share(labels)
    p = rate.clamp(CLIP, 1 - CLIP)
    of_rate = -(rate * p.log() + (1 - rate) * torch.log1p(-p))
    relative = 100 * (1 - loss / of_rate)
    return torch.where((rate > 0) & (rate < 1), relative, torch.nan)


def nrce(labels: Tensor, probabilities: Tensor) -> Tensor:
    """As `models.metrics.normalised_rce`: ()."""
    factor = share(labels) / probabilities.mean(dtype=torch.float64)
    return rce(labels, log_loss(labels, probabilities, factor))


def ece(labels: Tensor, probabilities: Tensor, bins: int = BINS) -> Tensor:
    """As `models.calibration.ece`: (). Rows in ascending order of their probabilities."""
    bins = min(bins, len(labels))
    gaps = []
    for label, p in zip(labels.tensor_split(bins), probabilities.tensor_split(bins), strict=True):
        gaps.append(p.sum(dtype=torch.float64) - (label > 0).sum())
    return torch.stack(gaps).abs().sum() / len(labels)


def share(labels: Tensor) -> Tensor:
    """Of the positives among the rows: ()."""
    return (labels > 0).sum().double() / len(labels)


def pieces(x: Tensor) -> tuple[Tensor, ...]:
    """Consecutive rows: few at a time on a CPU, where they stay in the cache; all on a GPU."""
    return x.split(BLOCK if x.device.type == "cpu" else max(1, len(x)))


def ndcg_by_user(
    user: Tensor, labels: Tensor, scores: Tensor, rows: Tensor, top: int = TOP
) -> Tensor:
    """As `models.metrics.ndcg`, of each user: (U,). NaN for one without both classes.

    user: (n,) int32, from 0 without gaps; rows: (U,) of each.
    """
    order = argsort(-scores)
    order = order[argsort(user[order])]  # each user's rows behind each other, the best one first
    rank = torch.arange(top, device=user.device)
    first = rows.cumsum(0) - rows
    best = order[(first[:, None] + rank).clamp(max=len(order) - 1)]  # (U, top)
    del order  # as large as all others together
    positive = labels > 0
    gain = 1 / torch.log2(rank.double() + 2)
    gained = torch.where((rank < rows[:, None]) & positive[best], gain, 0).sum(dim=1)
    positives = torch.bincount(user[positive], minlength=len(rows))
    both = (positives > 0) & (positives < rows)
    # The best order has the positives first.
    ideal = gain.cumsum(0)[(positives - 1).clamp(0, top - 1)]
    return torch.where(both, gained / ideal, torch.nan)


def argsort(keys: Tensor) -> Tensor:
    """The rows by ascending key, equal keys in the order of the rows: (n,) -> (n,) int64."""
    if keys.device.type == "cpu":
        return torch.from_numpy(ascending(keys.numpy()))
    return torch.argsort(keys, stable=True)


def metrics_of(labels: Tensor, scores: Tensor, ndcgs: Tensor) -> dict[str, float]:
    """All METRICS of one label, without the undefined ones.

    labels, scores: (n,), n >= 1, in ascending order of the scores; ndcgs: (U,), of each user.
    """
    loss = log_loss(labels, scores)
    values = (
        auc(labels, scores),
        loss,
        rce(labels, loss),
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

    users: (n,) int32, from 0 without gaps; labels 0/1, scores: (n, labels). Yields users (the
    bucket), label, rows and the defined metrics. A bucket without rows is left out.
    """
    to = device()
    rows_U = np.bincount(users)
    lowest = np.array([least for least, _ in BUCKETS])
    bucket_U = torch.from_numpy(np.searchsorted(lowest, rows_U, side="right") - 1).to(to)
    rows, user = torch.from_numpy(rows_U).to(to), torch.from_numpy(users).to(to)
    for column, label in enumerate(names):
        happened = torch.from_numpy(np.ascontiguousarray(labels[:, column])).to(to)
        score = torch.from_numpy(np.ascontiguousarray(scores[:, column])).to(to)
        ndcgs = ndcg_by_user(user, happened, score, rows)
        # Sorted once: the rows of a bucket are in order, too.
        order = argsort(score)
        happened, score = happened[order], score[order]
        bucket = bucket_U.to(torch.int8)[user[order]]
        del order
        if len(score):
            yield row_of(ALL, label, happened, score, ndcgs)
        for number, (_, name) in enumerate(BUCKETS):
            kept = bucket == number
            if kept.any():
                members = ndcgs[bucket_U == number]
                yield row_of(name, label, happened[kept], score[kept], members)


def row_of(
    users: str, label: str, labels: Tensor, scores: Tensor, ndcgs: Tensor
) -> dict[str, str | float]:
    """The row of one label and bucket; its rows as `metrics_of` wants them."""
    found = metrics_of(labels, scores, ndcgs)
    return {"users": users, "label": label, "rows": len(labels), **found}
