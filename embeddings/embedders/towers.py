"""Two towers: a network of consumers and one of producers, whose vectors' products are affinities.

The consumer's tower reads the producers in its history and its profile, the producer's tower its
id, its items' categories and its popularity. A newcomer of either side has a vector by what is
known of it. The first worker trains with the matrix of all; then each computes the vectors of its
own consumers by the published fold-in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from embeddings.blocks import MatrixShare
from embeddings.embedders import base
from embeddings.embedders.base import Fitted, Progress
from embeddings.facts import Fact
from embeddings.features import NOTHING, Features
from embeddings.fold_in.towers import TowersFoldIn
from embeddings.kernels.communicator import Communicator
from embeddings.towers.tower import Tower
from embeddings.towers.training import Config, Trained, train

POPULARITY = "popularity"  # a producer's sum of strengths


class Options(base.Options):
    """Options of the two towers, `[embedding.towers]`.

    The defaults are chosen for recommendation: docs/towers.md has the measurements.
    """

    epochs: int = Field(default=2, ge=1)
    """How often every engagement is passed, on average."""

    batch: int = Field(default=512, ge=1)
    """Engagements in one update; fewer where the log is small."""

    negatives: int = Field(default=1024, ge=0)
    """Producers drawn evenly for every batch, beside those in it. The producer that was engaged
    with must score above them."""

    hard_negatives: int = Field(default=0, ge=0)
    """Producers for every engagement that the towers rank highest of those that the consumer has
    not engaged with, as further negatives."""

    hidden: int = Field(default=64, ge=1)
    """Units of the hidden layer of each tower."""

    learning_rate: float = Field(default=0.003, gt=0)
    """Of Adam, at the beginning, four times as much for the vectors of ids; it falls linearly to
    zero."""

    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the producers in a history that a pass leaves out."""

    newcomers: float = Field(default=0.1, ge=0, lt=1)
    """Share of the engagements that are learned without the history or without the producer's id,
    so that features alone suffice."""

    ids: bool = True
    """Whether a producer has a vector of its own; otherwise its features are all that is read."""


class Towers:
    """Both towers, trained together; consumers by the fold-in `towers`."""

    FEATURES = True
    FACTS = (
        Fact("loss", "negative log-likelihood of a pair, last epoch", better="lower"),
        Fact("epochs", "passes over all engagements", "epochs"),
        Fact("consumer_features", "columns of the consumers' features", "columns"),
        Fact("producer_features", "columns of the producers' features", "columns"),
    )

    def fit(
        self, matrix: MatrixShare, dim: int, seed: int, options: Options, progress: Progress
    ) -> Fitted:
        """As `Embedder.fit`."""
        cfg = Config(dim=dim, seed=seed, **options.model_dump())
        x = matrix.by_consumer(lambda block: block.astype(np.float32))
        profiles = matrix.consumer_features or nothing(x.shape[0])
        traits = with_popularity(matrix.producer_features, matrix.column_sums)

        def report(epoch: int, loss: float) -> None:
            progress(f"Towers: {epoch} of {cfg.epochs} epochs, loss {loss:.4g}")

        trained = train_on_first(x, profiles.rows, traits.rows, matrix, cfg, report)
        consumer, producer = trained.consumer, trained.producer
        fold_in = TowersFoldIn.of(consumer, producer, profiles.vocabulary, traits.vocabulary)
        facts: dict[str, float | int] = {
            "loss": float(trained.losses[-1]),
            "epochs": cfg.epochs,
            "consumer_features": profiles.vocabulary.width,
            "producer_features": traits.vocabulary.width,
        }
        own = sp.identity(matrix.n_producers, np.float32, format="csr")
        if not cfg.ids:
            own = sp.csr_matrix((matrix.n_producers, 0), dtype=np.float32)
        vectors = producer.vectors(own, traits.rows)
        curves = [base.loss_curve(trained.losses.tolist())]
        return Fitted(fold_in.fold(x, profiles.rows), vectors, fold_in, facts, curves)


EMBEDDER = Towers()


def nothing(n: int) -> Features:
    """The features of n entities of which nothing is known."""
    return Features(NOTHING, NOTHING.rows({}, n))


def with_popularity(traits: Features | None, sums: np.ndarray) -> Features:
    """The producers' features and, as the last column, their popularity. sums: (m,)."""
    known = traits or nothing(len(sums))
    vocabulary = known.vocabulary.with_number(POPULARITY, sums)
    alone = NOTHING.with_number(POPULARITY, sums).rows({POPULARITY: sums}, len(sums))
    rows = sp.hstack([known.rows, alone], format="csr", dtype=np.float32)
    return Features(vocabulary, rows)


def train_on_first(
    x: sp.csr_matrix,
    profiles: sp.csr_matrix,
    traits: sp.csr_matrix,
    matrix: MatrixShare,
    cfg: Config,
    report: Callable[[int, float], None],
) -> Trained:
    """The training by the first worker, of which all have the result. x, profiles: own rows."""
    comm = matrix.comm
    whole, all_profiles = gathered(x, comm), gathered(profiles, comm)
    if comm.rank == 0:
        trained = train(whole, all_profiles, traits, matrix.producer_ids, cfg, report)
    else:
        untrained = sp.csr_matrix(whole.shape, dtype=np.float32)
        trained = train(untrained, all_profiles, traits, matrix.producer_ids, cfg)
    consumer, producer = from_first(trained.consumer, comm), from_first(trained.producer, comm)
    return Trained(consumer, producer, received(trained.losses, comm))


def gathered(rows: sp.csr_matrix, comm: Communicator) -> sp.csr_matrix:
    """The rows of all workers by rank, (all rows, columns) float32, on every worker."""
    lengths = comm.allgather(np.diff(rows.indptr).astype(np.int64))
    indices = comm.allgather(rows.indices.astype(np.int32))
    values = comm.allgather(rows.data.astype(np.float32))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((values, indices, indptr), (len(lengths), rows.shape[1]))


def from_first(tower: Tower, comm: Communicator) -> Tower:
    """The first worker's tower, on every worker."""
    return Tower(*(received(getattr(tower, field.name), comm) for field in fields(Tower)))


def received(array: np.ndarray, comm: Communicator) -> np.ndarray:
    """The first worker's array, on every worker; all have the same shape."""
    return comm.allreduce(array if comm.rank == 0 else np.zeros_like(array))
