"""Bag of features: a consumer is the mean of its features' vectors and of its history's.

Co-occurrence of features with producers: u·v is the affinity, v the published producers. A consumer
without engagements has the mean of its features, which are the categories of its profile; numbers
take no part. Consumers are computed by the fold-in, also those of the fit.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from embeddings.blocks import MatrixShare
from embeddings.cooccurrence.bags import Config, TrainedBags, fit
from embeddings.embedders import base
from embeddings.embedders.base import Fitted, Progress
from embeddings.facts import Fact
from embeddings.features import NOTHING, Features, Vocabulary
from embeddings.fold_in.bag import BagFoldIn


class Options(base.Options):
    """Options of the bag of features, `[embedding.bag]`."""

    epochs: int = Field(default=20, ge=1)
    """How often every engagement is passed."""

    batches: int = Field(default=50, ge=1)
    """Updates of the vectors in one epoch."""

    negatives: int = Field(default=20, ge=1, le=1000)
    """Producers drawn at random for every engagement, above which it has to score."""

    negative_exponent: float = Field(default=0.0, ge=-2, le=2)
    """Producers are drawn in proportion to their sums of strengths to this power. 0: all equally
    often."""

    learning_rate: float = Field(default=0.2, gt=0)
    """Length of the first steps, per vector; it falls linearly to zero."""

    most_common: float = Field(default=0.5, gt=0, le=1)
    """A feature that more than this share of the consumers have is dropped. 1: none is."""


class Bag:
    """Producers as outputs of co-occurrence with features; consumers by the fold-in `bag`."""

    FEATURES = True
    FACTS = (
        Fact(
            "loss", "negative log-likelihood of a pair, last epoch", better="lower", headline=True
        ),
        Fact("epochs", "passes over all engagements", "epochs"),
        Fact("consumer_features", "features that have a vector", "features"),
    )

    def fit(
        self, matrix: MatrixShare, dim: int, seed: int, options: Options, progress: Progress
    ) -> Fitted:
        """As `Embedder.fit`."""
        cfg = Config(dim=dim, seed=seed, **options.model_dump())
        x = matrix.by_consumer(lambda block: block.astype(np.float32))
        known = categories(matrix.consumer_features, x.shape[0])

        def report(epoch: int, loss: float) -> None:
            progress(f"Bag of features: {epoch} of {cfg.epochs} epochs, loss {loss:.4g}")

        names = feature_ids(known.vocabulary)
        trained = fit(known.rows, x, cfg, matrix.comm, names, matrix.producer_ids, report)
        fold_in = fold_in_of(trained, known.vocabulary)
        facts: dict[str, float | int] = {
            "loss": float(trained.losses[-1]),
            "epochs": cfg.epochs,
            "consumer_features": int(np.count_nonzero(trained.weights)),
        }
        curves = [base.loss_curve(trained.losses.tolist())]
        return Fitted(fold_in.fold(x, known.rows), trained.outputs, fold_in, facts, curves)


EMBEDDER = Bag()


def categories(features: Features | None, n: int) -> Features:
    """The categories of what is known of n consumers: a weight below 0 is none of a mean."""
    if features is None:
        return Features(NOTHING, NOTHING.rows({}, n))
    vocabulary = Vocabulary(features.vocabulary.categories, {})
    return Features(vocabulary, sp.csr_matrix(features.rows[:, : vocabulary.width]))


def feature_ids(vocabulary: Vocabulary) -> np.ndarray:
    """The names of the columns, as in `name=value`: (F,) bytes."""
    names = []
    for name, values in vocabulary.categories.items():
        names += [f"{name}={value}".encode() for value in values]
    return np.array(names, np.bytes_)


def fold_in_of(trained: TrainedBags, vocabulary: Vocabulary) -> BagFoldIn:
    """The fold-in of a finished fit."""
    return BagFoldIn(trained.inputs, trained.features, trained.weights, vocabulary.text())
