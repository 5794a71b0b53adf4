"""Co-occurrence: vectors from pairs that occur together, by skip-gram with negative sampling.

The published producers are what is predicted, the output vectors v; u·v is the affinity. A consumer
is what predicts them: the weighted mean of its producers' input vectors ("baskets", "sessions"), or
the vector that makes its producers likely ("direct"). Both are computed by the fold-in, from the
producers alone, also for the consumers of the fit: a fitted consumer and a later one differ in
nothing. The input vectors are in the fold-in, and `align` rotates it with the producers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from embeddings.blocks import MatrixShare, even_split
from embeddings.cooccurrence.training import (
    Config,
    Trained,
    fit,
    noise_shares,
)
from embeddings.embedders import base
from embeddings.embedders.base import Fitted, Progress
from embeddings.embedders.svd import row_range
from embeddings.facts import Fact
from embeddings.fold_in.base import FoldIn
from embeddings.fold_in.logistic import LogisticFoldIn
from embeddings.fold_in.mean import MeanFoldIn
from embeddings.kernels.communicator import run_threads

MOST_NOISE = 256  # producers that stand for all that may be drawn, where there are more


class Options(base.Options):
    """Options of the co-occurrence embedder, `[embedding.cooccurrence]`.

    The defaults are chosen for recommendation: docs/cooccurrence.md has the measurements.
    """

    pairs: Literal["baskets", "sessions", "direct"] = "baskets"
    """What occurs together: the producers that one consumer engaged with in the window ("baskets"),
    or in one session ("sessions", which needs `matrix.session_minutes`), or a consumer and its
    producers ("direct")."""

    epochs: int = Field(default=20, ge=1)
    """How often every engagement is passed."""

    batches: int = Field(default=50, ge=1)
    """Updates of the vectors in one epoch."""

    negatives: int = Field(default=20, ge=1, le=1000)
    """Producers drawn at random for every engagement, above which it has to score."""

    negative_exponent: float = Field(default=0.0, ge=-2, le=2)
    """Producers are drawn in proportion to their sums of strengths to this power. 0: all equally
    often; 0.75: as for words in a text."""

    subsample: float = Field(default=0.0, ge=0)
    """Share of all strengths above which a producer is passed less often. 0: for none."""

    learning_rate: float = Field(default=0.2, gt=0)
    """Length of the first steps, per coordinate; it falls linearly to zero."""

    regularization: float = Field(default=10.0, gt=0)
    """λ, the penalty on the length of a consumer's vector; only for "direct"."""


class Cooccurrence:
    """Producers as outputs of skip-gram; consumers by the fold-in, `mean` or `logistic`."""

    FACTS = (
        Fact(
            "loss", "negative log-likelihood of a pair, last epoch", better="lower", headline=True
        ),
        Fact("epochs", "passes over all engagements", "epochs"),
    )

    def fit(
        self, matrix: MatrixShare, dim: int, seed: int, options: Options, progress: Progress
    ) -> Fitted:
        """As `Embedder.fit`."""
        cfg = config(options, dim, seed)
        losses: list[float] = []

        def report(epoch: int, loss: float) -> None:
            losses.append(loss)
            progress(f"Co-occurrence: {epoch} of {cfg.epochs} epochs, loss {loss:.4g}")

        x = matrix.by_consumer(lambda block: block.astype(np.float32))
        baskets = matrix.by_session() if options.pairs == "sessions" else x
        trained = fit(baskets, cfg, matrix.comm, matrix.producer_ids, report)
        fold_in = fold_in_of(trained, matrix.column_sums, cfg)
        facts: dict[str, float | int] = {"loss": losses[-1], "epochs": len(losses)}
        curves = [base.loss_curve(losses)]
        return Fitted(fold_in.fold(x), trained.outputs, fold_in, facts, curves)


EMBEDDER = Cooccurrence()


@dataclass(frozen=True)
class Factors:
    """The vectors of a whole fit: (n, k) and (m, k) float32, and the fold-in of others."""

    consumers: np.ndarray
    producers: np.ndarray
    fold_in: FoldIn
    losses: np.ndarray  # (epochs,)


def cooccurrence(
    x: sp.csr_matrix,
    options: Options,
    dim: int,
    seed: int = 0,
    threads: int = 1,
    producer_ids: np.ndarray | None = None,
) -> Factors:
    """Fit a matrix in this process. x: (n, m) strengths > 0.

    The number of threads changes the result only by rounding. producer_ids: (m,) bytes, by default
    their row numbers. Raises ValueError for sessions, and as `cooccurrence.training.fit`.
    """
    if options.pairs == "sessions":
        raise ValueError("A matrix in memory has no sessions: expected baskets or direct.")
    cfg = config(options, dim, seed)
    x = x.astype(np.float32, copy=False)
    ids = np.arange(x.shape[1]).astype(np.bytes_) if producer_ids is None else producer_ids
    ranges = even_split(x.indptr, threads)
    parts = run_threads(threads, lambda comm: fit(row_range(x, ranges[comm.rank]), cfg, comm, ids))
    fold_in = fold_in_of(parts[0], np.asarray(x.sum(axis=0), np.float64).ravel(), cfg)
    return Factors(fold_in.fold(x), parts[0].outputs, fold_in, parts[0].losses)


def config(options: Options, dim: int, seed: int) -> Config:
    """The configuration of the training, which treats each session as a basket."""
    chosen = options.model_dump()
    if options.pairs == "sessions":
        chosen["pairs"] = "baskets"
    return Config(dim=dim, seed=seed, **chosen)


def fold_in_of(trained: Trained, sums: np.ndarray, cfg: Config) -> FoldIn:
    """The fold-in of a finished fit. sums: (m,), the sum of each column's strengths."""
    if trained.inputs is not None:
        return MeanFoldIn(trained.inputs, trained.keep)
    rows, shares = quadrature(noise_shares(sums, cfg.negative_exponent), MOST_NOISE)
    noise = trained.outputs[rows]
    return LogisticFoldIn(trained.outputs, noise, shares, float(cfg.negatives), cfg.regularization)


def quadrature(probabilities: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and weights, at most `most` of each, whose weighted sum stands for the expectation.

    probabilities: (m,). All rows where they are few; otherwise `most` evenly spaced points of the
    cumulated probabilities. Rows are sorted by popularity, so every degree of it is represented.
    """
    if len(probabilities) <= most:
        return np.arange(len(probabilities)), probabilities.astype(np.float32)
    points = (np.arange(most) + 0.5) / most
    drawn = np.searchsorted(np.cumsum(probabilities), points)
    rows, times = np.unique(np.minimum(drawn, len(probabilities) - 1), return_counts=True)
    return rows, (times / most).astype(np.float32)
