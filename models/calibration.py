"""Calibration: probabilities that say how often something happens, after the ranking is done.

A ranker that was trained on other days may be right about the order of rows and wrong about their
rates. Each label has a map of its own from probability to probability, fitted on the predictions of
a day that the ranker had not seen.

Shapes: n rows, L labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from models.blocks import BLOCK, blocks
from models.scratch import Rows

# Positives, and negatives, from which on a label has a shift, and from which on a scale as well.
ENOUGH, ENOUGH_FOR_SCALE = 20, 100
# Below the least and above the largest float32 that is a probability: 0 and 1 keep their order.
LOWEST, HIGHEST = 1e-46, 1 - 2.0**-26
FILE = "calibration.json"  # of a promoted ranker
BINS = 20  # of the calibration error and curve, each with the same number of rows
SAMPLE = 32  # blocks of rows that say where a fit of more rows starts
STEPS = 100  # of Newton's method, which needs about five
CLOSE = 1e-10  # share of the loss that a step may still gain where it is the last one

Derivatives: TypeAlias = tuple[float, np.ndarray, np.ndarray]  # loss, gradient, curvature


@dataclass(frozen=True)
class Platt:
    """p ↦ σ(scale · logit p + shift). With a positive scale the order of rows stays as it is.

    Source: Platt: Probabilistic Outputs for Support Vector Machines, 1999.
    """

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) -> (n,) float64."""
        calibrated = np.empty(len(probabilities))
        for rows in blocks(len(probabilities)):
            calibrated[rows] = sigmoid(self.scale * logit(probabilities[rows]) + self.shift)
        return calibrated


@dataclass(frozen=True)
class Isotonic:
    """The non-decreasing function through these knots, linear between and constant beyond them."""

    inputs: tuple[float, ...]  # ascending
    outputs: tuple[float, ...]

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) -> (n,) float64."""
        return np.interp(probabilities, self.inputs, self.outputs)


@dataclass(frozen=True)
class Calibration:
    """The map of each label that has one; the others keep their probabilities.

    day: whose predictions it was fitted on, '' for none.
    """

    day: str
    maps: Mapping[str, Platt]

    def __call__(self, labels: tuple[str, ...], scores: np.ndarray) -> np.ndarray:
        """The calibrated probabilities: (n, L) -> (n, L) float64. labels: of the columns."""
        columns = []
        for label, column in zip(labels, scores.T, strict=True):
            columns.append(self.map(label)(column))
        return np.stack(columns, axis=1)

    def map(self, label: str) -> Platt:
        return self.maps.get(label, Platt())

    def to_json(self) -> str:
        maps = {label: asdict(found) for label, found in self.maps.items()}
        return json.dumps({"day": self.day, "maps": maps}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        raw = json.loads(text)
        return cls(raw["day"], {label: Platt(**found) for label, found in raw["maps"].items()})


UNCALIBRATED = Calibration("", {})


def fit(labels: Rows, probabilities: Rows) -> Platt | None:
    """The map of a label; None with less than ENOUGH positives or negatives.

    With fewer than ENOUGH_FOR_SCALE it has a shift alone: a scale would follow single rows.
    labels 0/1, probabilities: (n,), in memory or on disk.
    """
    positives = positives_in(labels, blocks(len(labels)))
    rarer = min(positives, len(labels) - positives)
    if rarer < ENOUGH:
        return None
    return fit_platt(labels, probabilities, scaled=rarer >= ENOUGH_FOR_SCALE)


def positives_in(labels: Rows, read: Iterable[slice]) -> int:
    """The positives among these rows."""
    return sum(int((labels[rows] > 0).sum()) for rows in read)


def fit_platt(labels: Rows, probabilities: Rows, scaled: bool = True) -> Platt:
    """The scale and shift of the largest likelihood, with Platt's smoothed targets.

    Only the shift is fitted unless `scaled`, and where the best scale is not positive, because the
    day contradicts the model's order: ranks are the gate's affair. labels 0/1, probabilities: (n,),
    n >= 1, in memory or on disk.
    """
    positives = positives_in(labels, blocks(len(labels)))
    negatives = len(labels) - positives
    # Platt's prior: without it, a label that is separated perfectly would have an infinite scale.
    prior = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    loss_at = partial(cross_entropy, probabilities, labels, prior)
    if scaled:
        scale, shift = fitted(loss_at, labels, np.array([1.0, 0.0]))
        if scale > 0:
            return Platt(float(scale), float(shift))
    (shift,) = fitted(loss_at, labels, np.zeros(1))
    return Platt(1.0, float(shift))


def fitted(
    loss_at: Callable[[Sequence[slice], np.ndarray], Derivatives], labels: Rows, start: np.ndarray
) -> np.ndarray:
    """The weights with the least loss over all rows, (k,).

    Of many rows, some tell first where to start: then all of them are read twice, not six times.
    loss_at: of rows, in blocks, and weights.
    """
    every = list(blocks(len(labels)))
    some = every[:: -(-len(every) // SAMPLE)]
    if len(some) < len(every):
        positives = positives_in(labels, some)
        # With too few, the start could be worse than none.
        if ENOUGH_FOR_SCALE <= positives <= BLOCK * len(some) - BLOCK:
            start = newton(partial(loss_at, some), start)
    return newton(partial(loss_at, every), start)


def newton(loss_at: Callable[[np.ndarray], Derivatives], start: np.ndarray) -> np.ndarray:
    """The weights with the least loss, (k,): Newton's method; a step that gains nothing is halved.

    loss_at: loss, gradient (k,) and curvature (k, k) at weights.
    """
    weights = start
    loss, gradient, curvature = loss_at(weights)
    for _ in range(STEPS):
        # Where all rows have one score, scale and shift are one: the shortest step is taken.
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        if gradient @ step <= CLOSE * loss:  # twice what is left to gain: the step squares it
            return weights - step
        share = 1.0
        while share > 1e-8:
            candidate = weights - share * step
            found = loss_at(candidate)
            if found[0] < loss:
                break
            share /= 2
        else:
            return weights
        weights = candidate
        loss, gradient, curvature = found
    return weights


def cross_entropy(
    probabilities: Rows,
    labels: Rows,
    prior: tuple[float, float],
    read: Sequence[slice],
    weights: np.ndarray,
) -> Derivatives:
    """Σ log(1 + exp(z)) − target · z in nats, with z = scale · x + shift, and its derivatives.

    x: the logits of the probabilities, (n,). labels: (n,). prior: the targets of positives and of
    negatives. read: the rows, in blocks, so that memory does not grow with them. weights: scale and
    shift, or the shift alone, with a scale of 1.
    """
    scale, shift = weights if len(weights) == 2 else (1.0, weights[0])
    loss, gradient, curvature = 0.0, np.zeros(2), np.zeros((2, 2))
    for rows in read:
        of_rows = logit(probabilities[rows])
        z = scale * of_rows + shift
        targets = np.where(labels[rows] > 0, *prior)
        small = np.exp(-np.abs(z))
        p = np.where(z >= 0, 1, small) / (1 + small)
        loss += float((np.log1p(small) + np.maximum(z, 0) - targets * z).sum())
        residuals, w = p - targets, p * (1 - p)
        gradient += residuals @ of_rows, residuals.sum()
        mixed = w @ of_rows
        curvature += [[(w * of_rows) @ of_rows, mixed], [mixed, w.sum()]]
    if len(weights) == 1:
        return loss, gradient[1:], curvature[1:, 1:]
    return loss, gradient, curvature


def fit_isotonic(labels: np.ndarray, probabilities: np.ndarray) -> Isotonic:
    """The non-decreasing function of the least squares: pool adjacent violators.

    Rows of equal probability are one. labels 0/1, probabilities: (n,), n >= 1. Source: Zadrozny,
    Elkan: Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002.
    """
    distinct, at = np.unique(probabilities, return_inverse=True)
    weights = np.bincount(at).tolist()
    sums = np.bincount(at, labels > 0).tolist()
    blocks: list[list[float]] = []  # sum, weight, distinct probabilities of each
    for total, weight in zip(sums, weights, strict=True):
        block = [total, weight, 1]
        # A mean below that of the block before it: together they have one mean.
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            block = [a + b for a, b in zip(blocks.pop(), block, strict=True)]
        blocks.append(block)
    inputs: list[float] = []
    outputs: list[float] = []
    first = 0
    for total, weight, members in blocks:
        last = first + int(members) - 1
        for place in dict.fromkeys((first, last)):  # both ends; between them it is constant
            inputs.append(float(distinct[place]))
            outputs.append(total / weight)
        first = last + 1
    return Isotonic(tuple(inputs), tuple(outputs))


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: Σ (rows of a bin / n) · |mean probability − share of positives|.

    In bins of equally many rows, by probability; NaN without rows. labels, probabilities: (n,).
    """
    order = np.argsort(probabilities, kind="stable")
    added = Bins(len(labels), bins)
    added.add(labels[order], probabilities[order])
    return added.ece()


class Bins:
    """The same of rows that come in pieces, in the order of their probabilities.

    ends: (bins,), the rows before the end of each bin. probabilities, positives: (bins,), sums.
    """

    def __init__(self, rows: int, bins: int = BINS) -> None:
        """rows: of all pieces together."""
        bins = min(bins, rows)
        # As np.array_split: the first ones have one row more.
        sizes = np.full(bins, rows // max(bins, 1))
        sizes[: rows % max(bins, 1)] += 1
        self.sizes = sizes
        self.ends = np.cumsum(sizes)
        self.probabilities = np.zeros(bins)
        self.positives = np.zeros(bins, np.int64)
        self.done = 0

    def add(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """The next rows. labels, probabilities: (r,)."""
        first = int(np.searchsorted(self.ends, self.done, side="right"))
        cuts = self.ends[first:] - self.done
        cuts = cuts[cuts < len(labels)]
        positive = np.split(labels > 0, cuts)
        for number, p in enumerate(np.split(probabilities, cuts), start=first):
            if len(p):
                self.probabilities[number] += p.sum(dtype=np.float64)
                self.positives[number] += np.count_nonzero(positive[number - first])
        self.done += len(labels)

    def ece(self) -> float:
        """NaN without rows."""
        if not self.done:
            return float("nan")
        gaps = np.abs(self.probabilities / self.sizes - self.positives / self.sizes)
        error = 0.0
        for share, gap in zip(self.sizes / self.done, gaps, strict=True):
            error += share * gap
        return float(error)


def logit(probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 − p)), finite for 0 and 1. (n,) -> (n,) float64."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), LOWEST, HIGHEST)
    return np.log(p) - np.log1p(-p)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)
