"""Skip-gram with negative sampling on weighted pairs, in batches that any workers may share.

    Σ_(i,j) s_ij (log σ(h·v_j) + Σ_negatives log σ(−h·v_n))   is maximised,

for consumers i and producers j with strengths s > 0. The input h is the consumer's own vector
("direct"), or the weighted mean of the input vectors of the other producers in the consumer's
basket ("baskets"). Negatives are drawn in proportion to (strength of the column)^exponent. Nothing
but the matrix is kept in memory: pairs and negatives are formed where they are used.

The gradients of a batch are summed over the workers while the tables stay as they are. Then each
worker updates its share of the rows by Adagrad with one sum of squares per row, at a rate that
falls linearly to zero. Only rows that are in the batch of a worker have gradients, and are sent.
Which consumers a batch has, and what they draw, depends on the seed, the epoch and the consumer's
row in the whole matrix: the number of workers changes only the rounding.
Sources: Mikolov et al. 2013, arXiv:1310.4546 (skip-gram; with mean inputs it is their CBOW over the
whole basket); Barkan & Koenigstein 2016, arXiv:1603.04259 (item2vec); Caselles-Dupré et al. 2018,
arXiv:1804.04212 (its settings matter more than usual for recommendation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from embeddings.kernels.arguments import positive
from embeddings.kernels.communicator import Communicator, empty, share
from embeddings.kernels.negative_sampling import (
    adagrad,
    add_baskets,
    add_by_column,
    add_direct,
    alias_table,
    mark_columns,
    random_batches,
)
from embeddings.kernels.simd import LANES
from embeddings.sampling import mixed, noise

START = 0.1  # length of a producer's first vector
CHUNK = 256  # producers whose first vectors are drawn at a time
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the step from one key to the next


@dataclass(frozen=True)
class Config:
    """Everything that determines a fit: see the options of the embedder."""

    dim: int  # k, the length of a vector
    seed: int
    pairs: Literal["baskets", "direct"]
    epochs: int
    batches: int  # updates of the vectors in one epoch
    negatives: int  # for every pair
    negative_exponent: float
    subsample: float  # 0: none
    learning_rate: float
    regularization: float  # λ; only for "direct"


@dataclass(frozen=True)
class Trained:
    """The result of a fit, the same on every worker but for `consumers`.

    inputs: (m, k) float32, None for "direct", whose inputs are the consumers. outputs: (m, k)
    float32. keep: (m,) float32, the share of each producer's engagements that were passed.
    losses: (epochs,), the mean negative log-likelihood of a pair and its negatives in each epoch.
    consumers: (own consumers, k) float32, of this worker alone; None for "baskets".
    """

    inputs: np.ndarray | None
    outputs: np.ndarray
    keep: np.ndarray
    losses: np.ndarray
    consumers: np.ndarray | None = None


def fit(
    x: sp.csr_matrix,
    cfg: Config,
    comm: Communicator,
    producer_ids: np.ndarray,
    progress: Callable[[int, float], None] | None = None,
) -> Trained:
    """One worker's part of a fit; the workers' rows follow each other by rank.

    x: (own consumers, m) strengths > 0. producer_ids: (m,) bytes, which decide where the producers
    start, so that they start in the same place every day. progress: called with the number of
    finished epochs and the loss. Raises ValueError if a strength is not above 0.
    """
    m = x.shape[1]
    sizes = comm.allgather(np.array([x.shape[0]]))
    pairs = Pairs(x, int(sizes[: comm.rank].sum()), column_sums(x, comm), cfg)
    tables = Tables(first_vectors(producer_ids, cfg), m, cfg.dim, comm)
    losses = np.empty(cfg.epochs)
    keys = keys_of(cfg.seed, 2 * cfg.epochs)
    n_steps = cfg.epochs * cfg.batches
    for epoch in range(cfg.epochs):
        sums = np.zeros(2)  # log-likelihood, weight
        batches = batches_of(x.shape[0], pairs.start, keys[2 * epoch], cfg.batches)
        for number, rows in enumerate(batches):
            rate = cfg.learning_rate * (1 - (epoch * cfg.batches + number) / n_steps)
            tables.start_batch(pairs.inputs_of(rows))
            sums += pairs.add_gradients(rows, keys[2 * epoch + 1], rate, tables)
            tables.step(rate)
        likelihood, weight = comm.allreduce(sums)
        losses[epoch] = -likelihood / weight if weight > 0 else 0.0
        if progress:
            progress(epoch + 1, float(losses[epoch]))
    vectors = np.ascontiguousarray(tables.vectors[:, : cfg.dim])
    inputs = vectors[m:] if len(vectors) > m else None
    own = pairs.consumers[:, : cfg.dim] if cfg.pairs == "direct" else None
    return Trained(inputs, vectors[:m], pairs.keep, losses, own)


class Pairs:
    """One worker's pairs, and what is drawn for them."""

    def __init__(self, x: sp.csr_matrix, start: int, sums: np.ndarray, cfg: Config) -> None:
        """x: (own consumers, m). start: rows of the workers before. sums: (m,), of all columns."""
        self.cfg = cfg
        self.start = start
        self.indptr = x.indptr.astype(np.int64, copy=False)
        self.indices = x.indices.astype(np.int32, copy=False)
        self.strengths = positive(x.data)
        self.keep = kept_shares(sums, cfg.subsample)
        self.noise = alias_table(noise_shares(sums, cfg.negative_exponent))
        self.chosen = np.empty(1 + cfg.negatives, np.int64)
        if cfg.pairs == "direct":
            self.consumers = zeros(x.shape[0], cfg.dim)
            self.squares = np.zeros(x.shape[0], np.float32)

    def inputs_of(self, rows: np.ndarray) -> np.ndarray:
        """Which input vectors have a gradient in these rows: (m,) int32, 1 or 0; (0,) of direct."""
        marks = np.zeros(len(self.keep) if self.cfg.pairs == "baskets" else 0, np.int32)
        if len(marks):
            mark_columns(rows, self.indptr, self.indices, marks)
        return marks

    def add_gradients(
        self, rows: np.ndarray, key: np.uint64, rate: float, tables: Tables
    ) -> tuple[float, float]:
        """Pass these consumers; returns the log-likelihood and the weight of their pairs."""
        matrix = (rows, self.start, self.indptr, self.indices, self.strengths)
        drawn = (self.keep, *self.noise, key, self.chosen)
        arguments = (*matrix, *drawn, tables.vectors, tables.gradients)
        if self.cfg.pairs == "baskets":
            of_baskets = (*arguments, *tables.inputs)
            return add_baskets(*of_baskets)
        learning = (np.float32(rate), np.float32(self.cfg.regularization), self.cfg.dim)
        own = (*arguments, self.consumers, self.squares, *learning)
        return add_direct(*own)


class Tables:
    """The vectors that all workers learn together, and this worker's gradients of one batch.

    The first rows, the outputs, have a gradient in every batch, because negatives are drawn from
    all of them. The rows behind, the inputs, have one in the batches that they are in.

    Every worker has all vectors and updates its share of the rows with a gradient.
    """

    def __init__(self, vectors: np.ndarray, outputs: int, dim: int, comm: Communicator) -> None:
        """vectors: (rows, dim and padding) float32, the same on every worker; it is written to.

        outputs: how many of the rows have a gradient in every batch.
        """
        self.dim = dim
        self.comm = comm
        self.vectors = vectors
        self.squares = np.zeros(len(vectors), np.float32)
        self.outputs = outputs
        self.places = np.zeros(len(vectors) - outputs, np.int32)
        # Rows that are never written take no memory: the system gives it at the first touch.
        self.room = empty(vectors.shape, vectors.dtype)
        self.start_batch(np.zeros(len(self.places), np.int32))

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The vectors of inputs, the gradients of the batch, and in which row of them each is."""
        return self.vectors[self.outputs :], self.gradients[self.outputs :], self.places

    def start_batch(self, present: np.ndarray) -> None:
        """Clear the gradients. present: (inputs,) int32, above 0 for those in this worker's batch.

        The gradients have rows for all that are in the batch of any worker.
        """
        found = np.flatnonzero(self.comm.allreduce(present)).astype(np.int32)
        self.places[found] = np.arange(len(found), dtype=np.int32)
        always = np.arange(self.outputs, dtype=np.int32)
        self.rows = np.concatenate([always, found + np.int32(self.outputs)])
        self.gradients = self.room[: len(self.rows)]
        self.gradients[:] = 0.0

    def step(self, rate: float) -> None:
        """Follow the gradients of all workers."""
        own = self.rows[share(len(self.rows), self.comm)]
        summed = self.comm.reduce_scatter(self.gradients)
        adagrad(self.vectors, own, summed, self.squares, np.float32(rate), self.dim)
        if self.comm.size > 1:  # or there is nothing to exchange, and no need of copies
            for learned in (self.vectors, self.squares):
                learned[self.rows] = self.comm.allgather(learned[own], len(self.rows))


def zeros(n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 zeros, and columns of zeros up to the width of the kernels.

    The further columns stay zero and change no product.
    """
    rows = empty((n, dim + -dim % LANES), np.dtype(np.float32))
    rows[:] = 0.0
    return rows


def first_vectors(ids: np.ndarray, cfg: Config) -> np.ndarray:
    """Where the producers start, as wide as `zeros`: (m, k), or (2m, k) outputs before inputs.

    Directions by id and of length START. Of two tables the outputs start at zero: the first
    gradients do not move the inputs in directions that mean nothing.
    """
    m = len(ids)
    vectors = zeros(2 * m if cfg.pairs == "baskets" else m, cfg.dim)
    started = vectors[-m:] if m else vectors
    length = np.float32(START * np.sqrt(3 / cfg.dim))
    for start in range(0, m, CHUNK):  # or what is drawn would take more memory than the vectors
        rows = slice(start, min(start + CHUNK, m))
        started[rows, : cfg.dim] = noise(ids[rows], cfg.dim, cfg.seed) * length
    return vectors


def column_sums(x: sp.csr_matrix, comm: Communicator) -> np.ndarray:
    """The sum of each column over all workers, (m,) float64."""
    own = np.zeros(x.shape[1])
    add_by_column(x.indices, x.data, own)
    return comm.allreduce(own)


def noise_shares(sums: np.ndarray, exponent: float) -> np.ndarray:
    """The probability of each producer to be drawn, (m,) float64.

    A producer without engagements counts as the least engaged one: never drawn, it would keep its
    first vector, whose products are above those of producers that were pushed away.
    """
    engaged = sums > 0
    least = sums[engaged].min() if engaged.any() else 1.0
    # Divided first, so that no power overflows.
    powers = (np.where(engaged, sums, least) / least) ** exponent
    return powers / powers.sum()


def kept_shares(sums: np.ndarray, subsample: float) -> np.ndarray:
    """The share of each producer's engagements to pass, (m,) float32: √(t/f) + t/f, at most 1.

    sums: (m,), f its shares of the total. subsample: t; 0 keeps all. As in word2vec's code.
    """
    if subsample == 0 or not sums.any():
        return np.ones(len(sums), np.float32)
    shares = np.maximum(sums / sums.sum(), np.finfo(np.float64).tiny)
    ratio = np.minimum(subsample / shares, 1.0)
    return np.minimum(np.sqrt(ratio) + ratio, 1.0).astype(np.float32)


def keys_of(seed: int, count: int) -> np.ndarray:
    """Keys of independent random numbers, (count,) uint64."""
    start = mixed(np.full(1, seed, np.int64).view(np.uint64))
    return mixed(start + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def batches_of(n: int, start: int, key: np.uint64, count: int) -> Iterator[np.ndarray]:
    """A worker's rows, (n,) behind `start` others, in `count` batches: each in one at random."""
    # A byte or two for each row, where rows sorted by batch would take eight.
    batches = np.empty(n, np.min_scalar_type(count))
    random_batches(start, key, count, batches)
    for number in range(count):
        yield np.flatnonzero(batches == number)
