"""Metrics of scores where the model is: on its device, by label and by bucket of users.

They are those of `embeddings.benchmarks.auc`, `models.metrics` and `models.calibration`, but for
the rounding of sums, and NaN in the same places. Those need no torch, and the gate's intervals need
an AUC of weighted rows. These read a piece of the rows at a time, in the order of their scores or
user by user, so that memory does not grow with the rows.

Shapes: n rows, U users, B buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.blocks import BLOCK
from models.calibration import Bins
from models.metrics import CLIP, relative
from models.ordering import ascending
from models.scratch import Rows, Scratch, pieces, spread
from models.transfer import device

TOP = 5  # of the rows of a user, by score
# The least rows of a user, and the name of the bucket.
BUCKETS = ((1, "1"), (2, "2-4"), (5, "5-9"), (10, "10-19"), (20, "20+"))
ALL = "all"
FIELDS = ("happened", "score", "bucket")  # of the rows that are read
METRICS = ("auc", "log_loss", "rce", "nrce", "ece", f"ndcg_{TOP}")


@dataclass(frozen=True)
class Users:
    """The user of every row. The rows of a user are on one shelf, with those of other users.

    shelves: (n,) uint16, of every row. sizes: (shelves,), their rows. numbers: (n,) int32, those of
    the first shelf first, in the order of the rows: which of the shelf's users, from 0 without
    gaps. buckets: (n,) uint8, of every row: the bucket of its user.
    """

    shelves: Rows
    sizes: np.ndarray
    numbers: Rows
    buckets: Rows

    @classmethod
    def of(cls, numbers: np.ndarray) -> Users:
        """Rows in memory, on one shelf. numbers: (n,) int32, from 0 without gaps."""
        shelves = np.zeros(len(numbers), np.uint16)
        return cls(shelves, np.array([len(numbers)]), numbers, buckets_of(numbers))


def buckets_of(numbers: np.ndarray) -> np.ndarray:
    """The bucket of each row's user, (n,) uint8. numbers: (n,), of all rows of some users."""
    return bucket_of_rows(np.bincount(numbers))[numbers]


def bucket_of_rows(rows_U: np.ndarray) -> np.ndarray:
    """The bucket of users with so many rows, (U,) uint8."""
    lowest = np.array([least for least, _ in BUCKETS])
    return (np.searchsorted(lowest, rows_U, side="right") - 1).astype(np.uint8)


def on_device(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).to(device())


def pairs_in_order(labels: Tensor, scores: Tensor) -> int:
    """Pairs of a positive and a negative below it, twice; those with equal scores count once.

    labels, scores: (n,), in ascending order of the scores.
    """
    positive = labels > 0
    positives, negatives = scores[positive], scores[~positive]
    # Of each positive, the negatives below it, and those not above it: a tie is in one of them.
    below = torch.searchsorted(negatives, positives, out_int32=True).sum()
    not_above = torch.searchsorted(negatives, positives, right=True, out_int32=True).sum()
    return int(below + not_above)


def total_log_loss(labels: Tensor, probabilities: Tensor, factor: float = 1.0) -> float:
    """Sum of −log p(label), in nats, with p clipped to [CLIP, 1 − CLIP].

    p: factor · probabilities. labels, probabilities: (n,).
    """
    total = torch.zeros((), dtype=torch.float64, device=labels.device)
    for label, probability in zip(cached(labels), cached(probabilities), strict=True):
        p = (probability.double() * factor).clamp(CLIP, 1 - CLIP)
        # One logarithm a row instead of two: 1 − p is exact from ½ on, right to 1e-16 below.
        total -= torch.where(label > 0, p, 1 - p).log().sum()
    return float(total)


def cached(x: Tensor) -> tuple[Tensor, ...]:
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


class Ranked:
    """A group of rows that come in the order of their scores, added up.

    rows, positives: of all pieces together. total: the sum of their scores.
    """

    def __init__(self, rows: int, positives: int, total: float) -> None:
        self.rows = rows
        self.positives = positives
        self.factor = positives / total if total else float("nan")  # to the rate of the positives
        self.bins = Bins(rows)
        self.loss = 0.0
        self.scaled_loss = 0.0
        self.pairs = 0  # in order, twice
        self.negatives = 0  # so far
        # The rows with the highest score so far: the next ones may have it, too.
        self.highest = float("nan")
        self.tied_positives = self.tied_negatives = 0

    def add(self, happened: np.ndarray, scores: np.ndarray, loss: float) -> None:
        """The next rows. happened: (r,) bool, scores: (r,), ascending. loss: their log loss."""
        if not len(scores):
            return
        self.bins.add(happened, scores)
        label, score = on_device(happened), on_device(scores)
        self.loss += loss
        self.scaled_loss += total_log_loss(label, score, self.factor)
        self._add_pairs(label, score)

    def _add_pairs(self, label: Tensor, score: Tensor) -> None:
        positives = int(label.count_nonzero())
        # Every negative so far is below every positive of these, but for those with one score.
        self.pairs += pairs_in_order(label, score) + 2 * positives * self.negatives
        positives_now, negatives_now = counts_at(self.highest, label, score)
        self.pairs += self.tied_positives * negatives_now - positives_now * self.tied_negatives
        highest = float(score[-1])
        if highest == self.highest:
            self.tied_positives += positives_now
            self.tied_negatives += negatives_now
        else:
            self.highest = highest
            self.tied_positives, self.tied_negatives = counts_at(highest, label, score)
        self.negatives += len(label) - positives

    def metrics(self) -> dict[str, float]:
        """METRICS but for the last, NaN where one is undefined."""
        if not self.rows:
            return {}
        rate = self.positives / self.rows
        loss = self.loss / self.rows
        pairs = self.positives * (self.rows - self.positives)
        values = (
            self.pairs / 2 / pairs if pairs else float("nan"),
            loss,
            relative(loss, rate),
            relative(self.scaled_loss / self.rows, rate),
            self.bins.ece(),
        )
        return dict(zip(METRICS, values, strict=False))


def counts_at(value: float, label: Tensor, score: Tensor) -> tuple[int, int]:
    """The positives and negatives with this score. label, score: (r,), ascending."""
    ends = torch.tensor([value], dtype=score.dtype, device=score.device)
    first = int(torch.searchsorted(score, ends))
    last = int(torch.searchsorted(score, ends, right=True))
    positives = int(label[first:last].count_nonzero())
    return positives, max(last - first, 0) - positives


class Figures:
    """The metrics of a label, of all users and of those with as many rows as a bucket says.

    Rows are of a structured type with FIELDS.
    """

    def __init__(self, rows: Rows, users: Users, scratch: Scratch) -> None:
        sums = sums_by_bucket(rows, scratch)
        self.buckets = {
            number: Ranked(int(rows_b), int(positives), float(total))
            for number, (rows_b, positives, total) in enumerate(sums)
            if rows_b
        }
        n, positives, total = sums.sum(axis=0)
        self.all = Ranked(int(n), int(positives), float(total))
        self.ndcgs, self.defined = ndcgs_by_bucket(rows, users, scratch)

    def add(self, piece: np.ndarray) -> None:
        """The next rows in ascending order of their scores."""
        happened, scores, buckets = (piece[name].copy() for name in FIELDS)
        of_all = 0.0
        for number, ranked in self.buckets.items():
            inside = buckets == number
            label, score = happened[inside], scores[inside]
            loss = total_log_loss(on_device(label), on_device(score))
            ranked.add(label, score, loss)
            of_all += loss
        self.all.add(happened, scores, of_all)

    def rows(self, label: str) -> Iterator[dict[str, str | float]]:
        """users (the bucket), label, rows and the defined metrics; of a bucket that has rows."""
        if self.all.rows:
            ndcg = mean(self.ndcgs.sum(), self.defined.sum())
            yield row_of(ALL, label, self.all, ndcg)
        for number, ranked in self.buckets.items():
            ndcg = mean(self.ndcgs[number], self.defined[number])
            yield row_of(BUCKETS[number][1], label, ranked, ndcg)


def mean(total: float, n: int) -> float:
    return float(total / n) if n else float("nan")


def row_of(users: str, label: str, ranked: Ranked, ndcg: float) -> dict[str, str | float]:
    """The row of one label and bucket."""
    found = ranked.metrics() | {METRICS[-1]: ndcg}
    defined = {name: value for name, value in found.items() if not np.isnan(value)}
    return {"users": users, "label": label, "rows": ranked.rows, **defined}


def sums_by_bucket(rows: Rows, scratch: Scratch) -> np.ndarray:
    """Rows, positives and the sum of the scores of each bucket: (B, 3)."""
    sums = np.zeros((len(BUCKETS), 3))
    for piece in pieces(rows, scratch.piece):
        for column, weights in enumerate((None, piece["happened"], piece["score"])):
            sums[:, column] += np.bincount(piece["bucket"], weights, len(BUCKETS))
    return sums


def ndcgs_by_bucket(rows: Rows, users: Users, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the nDCGs of each bucket's users, and how many have one: (B,), (B,)."""
    sums, defined = np.zeros(len(BUCKETS)), np.zeros(len(BUCKETS), np.int64)
    done = 0
    for shelf in on_shelves(rows, users, scratch):
        here = shelf[:]
        numbers = users.numbers[done : done + len(here)]
        done += len(here)
        ndcg = ndcgs_of(numbers, here)
        has_one = ~np.isnan(ndcg)
        bucket = bucket_of_rows(np.bincount(numbers))[has_one]
        sums += np.bincount(bucket, ndcg[has_one], len(BUCKETS))
        defined += np.bincount(bucket, minlength=len(BUCKETS))
    return sums, defined


def on_shelves(rows: Rows, users: Users, scratch: Scratch) -> list[Rows]:
    """The rows of each shelf, in their order."""
    if len(users.sizes) == 1:
        return [rows]
    every = pieces(rows, scratch.piece)
    placed = zip(pieces(users.shelves, scratch.piece), every, strict=True)
    return list(spread(placed, users.sizes, scratch))


def ndcgs_of(numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The nDCG of each user, (U,). numbers: (r,) int32 of the rows' users."""
    label, score = on_device(rows["happened"].copy()), on_device(rows["score"].copy())
    count = on_device(np.bincount(numbers))
    return ndcg_by_user(on_device(numbers), label, score, count).cpu().numpy()
