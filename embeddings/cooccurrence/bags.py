"""Skip-gram with negative sampling whose input is a bag of features.

    Σ_(i,j) s_ij (log σ(h_i·v_j) + Σ_negatives log σ(−h_i·v_n)),   h_i = Σ_f w_if e_f / Σ_f w_if

is maximised for entities i with features f, such as newcomers and the web domains that they visited
before they signed up, and producers j that they engaged with. The vector of an entity that came a
minute ago is a look-up and a mean. Source: Shiebler et al. 2018, "Fighting Redundancy and Model
Decay with Embeddings", co-occurrence embeddings by bags of features.

Beside it the same vectors v are learned from baskets, as in `training`: what is known of producers
from entities without features is known of them to all. Batches, draws and workers are those of
`training`: the number of workers changes only the rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from embeddings.cooccurrence import training
from embeddings.cooccurrence.training import (
    Pairs,
    Tables,
    batches_of,
    column_sums,
    first_vectors,
    keys_of,
)
from embeddings.kernels.communicator import Communicator
from embeddings.kernels.feature_bags import add_feature_bags


@dataclass(frozen=True)
class Config:
    """Everything that determines a fit: see the options of the embedder `bag`."""

    dim: int  # k, the length of a vector
    seed: int
    epochs: int = 20
    batches: int = 50
    negatives: int = 20
    negative_exponent: float = 0.0
    learning_rate: float = 0.2
    most_common: float = 0.5  # share of the entities with features above which one is dropped

    @property
    def of_baskets(self) -> training.Config:
        """The same for what is learned from baskets."""
        return training.Config(
            dim=self.dim,
            seed=self.seed,
            pairs="baskets",
            epochs=self.epochs,
            batches=self.batches,
            negatives=self.negatives,
            negative_exponent=self.negative_exponent,
            subsample=0.0,
            learning_rate=self.learning_rate,
            regularization=0.0,
        )


@dataclass(frozen=True)
class TrainedBags:
    """The result of a fit, the same on every worker.

    features: (F, k), e; weights: (F,), 0 for a feature that was dropped and 1 for the others;
    inputs: (m, k), what a producer in a history adds to a bag; outputs: (m, k), v; all float32.
    losses: (epochs,), the mean negative log-likelihood of a pair and its negatives in each epoch.
    """

    features: np.ndarray
    weights: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    losses: np.ndarray


@dataclass
class Learner:
    """One worker's pairs of both kinds, and the vectors: m outputs, F features, m inputs."""

    bags: sp.csr_matrix  # (own entities, F) float32
    pairs: Pairs
    tables: Tables
    chosen: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.chosen = np.empty(1 + self.pairs.cfg.negatives, np.int64)

    def pass_batch(self, rows: np.ndarray, keys: np.ndarray, rate: float) -> np.ndarray:
        """Add the gradients of these rows, and follow those of all workers.

        keys: two, one for each kind of pairs. Returns the log-likelihood and the weight of all
        pairs.
        """
        tables, pairs = self.tables, self.pairs
        tables.start_batch(pairs.inputs_of(rows))
        of_baskets = pairs.add_gradients(rows, keys[0], rate, tables)
        bags = (self.bags.indptr, self.bags.indices, self.bags.data)
        matrix = (pairs.indptr, pairs.indices, pairs.strengths)
        drawn = (*pairs.noise, keys[1], self.chosen)
        features = slice(len(pairs.keep), len(pairs.keep) + self.bags.shape[1])
        learned = (tables.vectors, tables.gradients)
        of_features = (tables.vectors[features], tables.gradients[features])
        arguments = (rows, pairs.start, *bags, *matrix, *drawn, *learned, *of_features)
        of_bags = add_feature_bags(*arguments)
        tables.step(rate)
        return np.add(of_baskets, of_bags)


def fit(
    bags: sp.csr_matrix,
    x: sp.csr_matrix,
    cfg: Config,
    comm: Communicator,
    feature_ids: np.ndarray,
    producer_ids: np.ndarray,
    progress: Callable[[int, float], None] | None = None,
) -> TrainedBags:
    """One worker's part of a fit; the workers' rows follow each other by rank.

    bags: (own entities, F) weights >= 0; an entity may have none. x: (own entities, m) strengths
    > 0. feature_ids: (F,) and producer_ids: (m,) bytes, which decide where the vectors start.
    progress: called with the number of finished epochs and the loss. Raises ValueError if a
    strength is not above 0.
    """
    sizes = comm.allgather(np.array([x.shape[0]]))
    start = int(sizes[: comm.rank].sum())
    weights = kept_features(bags, cfg.most_common, comm)
    pairs = Pairs(x, start, column_sums(x, comm), cfg.of_baskets)
    first = starting_table(feature_ids, producer_ids, cfg)
    tables = Tables(first, len(first) - x.shape[1], cfg.dim, comm)
    learner = Learner(weighted(bags, weights), pairs, tables)
    losses = np.empty(cfg.epochs)
    keys = keys_of(cfg.seed, 3 * cfg.epochs).reshape(cfg.epochs, 3)
    for epoch in range(cfg.epochs):
        sums = np.zeros(2)  # log-likelihood, weight
        for number, rows in enumerate(batches_of(x.shape[0], start, keys[epoch, 0], cfg.batches)):
            done = (epoch + number / cfg.batches) / cfg.epochs
            sums += learner.pass_batch(rows, keys[epoch, 1:], cfg.learning_rate * (1 - done))
        likelihood, weight = comm.allreduce(sums)
        losses[epoch] = -likelihood / weight if weight > 0 else 0.0
        if progress:
            progress(epoch + 1, float(losses[epoch]))
    vectors = np.ascontiguousarray(tables.vectors[:, : cfg.dim])
    m = x.shape[1]
    outputs, features, inputs = np.split(vectors, [m, m + len(weights)])
    return TrainedBags(features, weights, inputs, outputs, losses)


def starting_table(feature_ids: np.ndarray, producer_ids: np.ndarray, cfg: Config) -> np.ndarray:
    """Where the vectors start, as wide as the kernels need: outputs, features, inputs."""
    # Without inputs and outputs: the features start as producers do that are both.
    direct = training.Config(**(vars(cfg.of_baskets) | {"pairs": "direct"}))
    features = first_vectors(feature_ids, direct)
    producers = first_vectors(producer_ids, cfg.of_baskets)
    m = len(producer_ids)
    table = training.zeros(len(features) + len(producers), cfg.dim)
    table[m : m + len(features)] = features
    table[m + len(features) :] = producers[m:]  # the outputs start at zero
    return table


def kept_features(bags: sp.csr_matrix, most: float, comm: Communicator) -> np.ndarray:
    """0 for a feature that more than a share of the entities with any have, 1 otherwise.

    (F,) float32. What nearly everybody has tells nothing, and takes a place in every mean.
    """
    present = bags.data > 0
    own = np.bincount(bags.indices[present], minlength=bags.shape[1]).astype(np.float64)
    has_any = float(np.count_nonzero(np.diff(bags.indptr)))
    counts = comm.allreduce(np.append(own, has_any))
    return (counts[:-1] <= most * counts[-1]).astype(np.float32)


def weighted(bags: sp.csr_matrix, weights: np.ndarray) -> sp.csr_matrix:
    """The bags with each feature times its weight, in the types of the kernels."""
    values = bags.data.astype(np.float32) * weights[bags.indices]
    indices, indptr = bags.indices.astype(np.int32), bags.indptr.astype(np.int64)
    scaled = sp.csr_matrix(bags.shape, dtype=np.float32)
    # Set, not given: the constructor would choose other types of indices.
    scaled.data, scaled.indices, scaled.indptr = values, indices, indptr
    return scaled
