"""The training of two towers, on one worker and one thread; nothing else imports torch.

The loss of a pair (i, j) in a batch is −log softmax_j(u_i·v_j' − log q_j') over the producers j' of
the batch that i has not engaged with, j, and i's hard negatives if there are any. Tables of ids are
updated where a batch has the id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numba import njit

from embeddings.sampling import noise
from embeddings.torch_threads import one_thread
from embeddings.towers.batches import Batch, Draw, Pairs
from embeddings.towers.hard_negatives import HardNegatives
from embeddings.towers.tower import Tower

if TYPE_CHECKING:
    from torch import Tensor

START = 0.1  # length of a producer's first input vector
CHUNK = 4096  # producers whose first vectors are drawn at a time
TABLE = 4.0  # times the rate of the layers: a row of a table is in few batches
MEAN, SQUARE, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as torch has them


@dataclass(frozen=True)
class Config:
    """Everything that determines a training besides its input: see the options of the embedder."""

    dim: int  # k, the length of a vector; also the width of the towers
    seed: int
    epochs: int
    batch: int
    negatives: int
    hard_negatives: int
    hidden: int  # H, units of the hidden layer
    learning_rate: float
    dropout: float
    newcomers: float
    ids: bool  # whether the tower of the producers reads their ids

    @property
    def draw(self) -> Draw:
        return Draw(self.batch, self.negatives, self.dropout, self.newcomers)


@dataclass(frozen=True)
class Trained:
    """Both towers, and the mean loss of a pair in each epoch, (epochs,)."""

    consumer: Tower
    producer: Tower
    losses: np.ndarray


def train(
    x: sp.csr_matrix,
    profiles: sp.csr_matrix,
    traits: sp.csr_matrix,
    producer_ids: np.ndarray,
    cfg: Config,
    progress: Callable[[int, float], None] | None = None,
) -> Trained:
    """Fit both towers. The same arguments give the same bytes on one kind of machine.

    x: (n, m) strengths > 0. profiles: (n, F) and traits: (m, G), features of the consumers and the
    producers. producer_ids: (m,) bytes, which decide where the producers start, so that they start
    in the same place every day. progress: called with the number of finished epochs and the loss.
    """
    consumer = first_tower(first_vectors(producer_ids, cfg), profiles.shape[1], cfg, side=0)
    own = np.zeros((len(producer_ids) if cfg.ids else 0, cfg.dim), np.float32)
    producer = first_tower(own, traits.shape[1], cfg, side=1)
    losses = np.zeros(cfg.epochs)
    if not x.nnz:  # nothing to learn from
        return Trained(consumer, producer, losses)
    with one_thread():
        learner = Learner(consumer, producer, profiles, traits, cfg)
        pairs = Pairs(x, cfg.draw)
        rng = np.random.default_rng(cfg.seed)
        for epoch in range(cfg.epochs):
            total = 0.0
            for number, batch in enumerate(pairs.epoch(rng)):
                done = (epoch + number / pairs.batches) / cfg.epochs
                total += learner.step(batch, cfg.learning_rate * (1 - done))
            losses[epoch] = total / pairs.batches
            if progress:
                progress(epoch + 1, float(losses[epoch]))
        return Trained(*learner.towers(), losses)


class Learner:
    """The weights of both towers, and the means of Adam; torch has the gradients."""

    def __init__(
        self,
        consumer: Tower,
        producer: Tower,
        profiles: sp.csr_matrix,
        traits: sp.csr_matrix,
        cfg: Config,
    ) -> None:
        """profiles: (n, F), traits: (m, G): those of all consumers and producers."""
        import torch

        self.profiles, self.traits, self.ids = profiles, traits, cfg.ids
        count = cfg.hard_negatives
        self.hard = HardNegatives(count, traits.shape[0], self.current, cfg.seed) if count else None
        self.consumer, self.producer = Weights(consumer), Weights(producer)
        layers = [*self.consumer.layers.values(), *self.producer.layers.values()]
        self.adam = torch.optim.Adam(layers)

    def step(self, batch: Batch, rate: float) -> float:
        """Follow the gradient of one batch; returns its loss."""
        self.adam.zero_grad()
        loss = self.loss(batch)
        loss.backward()
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        for weights in (self.consumer, self.producer):
            weights.update_table(TABLE * rate)
        return float(loss.detach())

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of the batch's pairs."""
        import torch
        from torch.nn import functional

        consumers = self.consumer.vectors(batch.bags, self.profiles[batch.rows])
        if self.hard:
            batch = self.hard.added_to(batch, consumers.detach())
        producers = self.vectors_of(batch.producers, batch.known)
        products = torch.addmm(torch.from_numpy(batch.shifts), consumers, producers.T)
        return functional.cross_entropy(products, torch.from_numpy(batch.targets))

    def vectors_of(self, producers: np.ndarray, known: np.ndarray) -> Tensor:
        """The vectors of these producers, (C, k). known: (C,), whose tower reads the id."""
        own = own_ids(producers, known, len(self.producer.table.rows), self.ids)
        return self.producer.vectors(own, self.traits[producers])

    def current(self, producers: np.ndarray) -> Tensor:
        """The vectors of these producers as they are now, without gradients."""
        import torch

        with torch.no_grad():
            return self.vectors_of(producers, np.ones(len(producers), bool))

    def towers(self) -> tuple[Tower, Tower]:
        """The weights as they are now."""
        return self.consumer.tower(), self.producer.tower()


class Weights:
    """The weights of one tower while it learns: layers as tensors, and the table of its ids."""

    def __init__(self, tower: Tower) -> None:
        import torch

        arrays = dict(vars(tower))
        self.table = Table(arrays.pop("inputs"))
        self.layers = {
            name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()
        }
        self.used = np.empty(0, np.int64)  # rows of the table that the last batch read
        self.read = torch.empty(0)  # these rows, with their gradient

    def vectors(self, bags: sp.csr_matrix, features: sp.csr_matrix) -> Tensor:
        """What `Tower.vectors` computes, with gradients; here also a row of zeros has a vector.

        bags: (n, m) float32 weights >= 0. features: (n, F).
        """
        import torch

        sums = np.asarray(bags.sum(axis=1), np.float32).ravel()
        empty = sums <= 0
        weights = bags.data / np.repeat(np.where(empty, np.float32(1), sums), np.diff(bags.indptr))
        self.used, columns = self.table.distinct(bags.indices)
        self.read = torch.tensor(self.table.rows[self.used], requires_grad=True)
        means = sp.csr_matrix((weights, columns, bags.indptr), (len(sums), len(self.used)))
        layers = self.layers
        z = summed(self.read, means) + summed(layers["features"], features)
        z = z + layers["bias"][torch.from_numpy(empty.astype(np.int64))]
        units = torch.relu(z @ layers["hidden"] + layers["hidden_bias"])
        return torch.cat([z, units], dim=1) @ layers["out"]

    def update_table(self, rate: float) -> None:
        """Follow the gradient of the rows that the last batch read."""
        if self.read.grad is not None:
            self.table.update(self.used, self.read.grad.numpy(), rate)

    def tower(self) -> Tower:
        arrays = {name: tensor.detach().numpy().copy() for name, tensor in self.layers.items()}
        return Tower(self.table.rows, **arrays)


class Table:
    """The vectors of ids, learned by Adam where a batch has the id: there may be a million."""

    def __init__(self, rows: np.ndarray) -> None:
        """rows: (m, d) float32; they are written to."""
        self.rows = rows
        self.means = np.zeros_like(rows)
        self.squares = np.zeros_like(rows)
        self.steps = 0
        self.seen = np.zeros(len(rows), bool)  # all False between two calls of `distinct`
        self.place = np.empty(len(rows), np.int64)

    def distinct(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `np.unique(ids, return_inverse=True)`, which sorts them."""
        self.seen[ids] = True
        used = np.flatnonzero(self.seen)
        self.seen[used] = False
        self.place[used] = np.arange(len(used))
        return used, self.place[ids]

    def update(self, used: np.ndarray, gradient: np.ndarray, rate: float) -> None:
        """One step of these rows. used: (u,), unique. gradient: (u, d)."""
        self.steps += 1
        length = np.float32(rate / (1 - MEAN**self.steps))
        bias = np.float32(1 - SQUARE**self.steps)
        adam_step(self.rows, self.means, self.squares, used, gradient, length, bias)


@njit(nogil=True, error_model="numpy", cache=True)
def adam_step(rows, means, squares, used, gradient, length, bias):
    """Adam on the rows `used`, in one pass, all in float32.

    m += (1 − β₁)(g − m), s += (1 − β₂)(g² − s), w −= length · m / (√(s / bias) + ε).
    """
    of_mean, of_square = np.float32(1 - MEAN), np.float32(1 - SQUARE)
    epsilon = np.float32(EPSILON)
    for at in range(len(used)):
        row = used[at]
        for f in range(rows.shape[1]):
            g = gradient[at, f]
            means[row, f] += of_mean * (g - means[row, f])
            squares[row, f] += of_square * (g * g - squares[row, f])
            spread = np.sqrt(squares[row, f] / bias) + epsilon
            rows[row, f] -= length * means[row, f] / spread


def summed(table: Tensor, rows: sp.csr_matrix) -> Tensor:
    """rows · table, (n, d)."""
    import torch
    from torch.nn import functional

    if not rows.nnz:
        return torch.zeros((rows.shape[0], table.shape[1]))
    return functional.embedding_bag(
        torch.from_numpy(rows.indices.astype(np.int64)),
        table,
        torch.from_numpy(rows.indptr[:-1].astype(np.int64)),
        mode="sum",
        per_sample_weights=torch.from_numpy(rows.data.astype(np.float32, copy=False)),
    )


def own_ids(producers: np.ndarray, known: np.ndarray, m: int, ids: bool) -> sp.csr_matrix:
    """The bag of each of C producers: itself where it is known, (C, m) float32."""
    rows = np.flatnonzero(known) if ids else np.empty(0, np.int64)
    ones = np.ones(len(rows), np.float32)
    return sp.csr_matrix((ones, (rows, producers[rows])), shape=(len(producers), m))


def first_tower(inputs: np.ndarray, n_features: int, cfg: Config, side: int) -> Tower:
    """A tower that returns z: features and bias start at zero, and so does the hidden layer's part.

    side: of two towers with the same seed, which start with different hidden units.
    """
    rng = np.random.default_rng([cfg.seed, side])
    d, units = cfg.dim, cfg.hidden
    hidden = rng.normal(size=(d, units)) * np.sqrt(2 / d)
    out = np.vstack([np.eye(d), np.zeros((units, d))])
    arrays = (np.zeros((n_features, d)), np.zeros((2, d)), hidden, np.zeros((1, units)), out)
    return Tower(inputs, *(array.astype(np.float32) for array in arrays))


def first_vectors(ids: np.ndarray, cfg: Config) -> np.ndarray:
    """Where the inputs of the producers start: directions by id, of length START, (m, k)."""
    rows = np.empty((len(ids), cfg.dim), np.float32)
    length = np.float32(START * np.sqrt(3 / cfg.dim))
    for start in range(0, len(ids), CHUNK):  # or what is drawn would take more memory than these
        some = slice(start, start + CHUNK)
        rows[some] = noise(ids[some], cfg.dim, cfg.seed) * length
    return rows
