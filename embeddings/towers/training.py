"""The training of two towers, on one worker and one thread; nothing else imports torch.

The loss of a pair (i, j) in a batch is −log softmax_j(u_i·v_j' − log q_j') over the producers j' of
the batch that i has not engaged with, and j. Tables of ids are updated where a batch has the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from embeddings.sampling import noise
from embeddings.towers.batches import Batch, Draw, Pairs
from embeddings.towers.tower import Tower

if TYPE_CHECKING:
    from torch import Tensor

START = 0.1  # length of a producer's first input vector
CHUNK = 4096  # producers whose first vectors are drawn at a time


@dataclass(frozen=True)
class Config:
    """Everything that determines a training besides its input: see the options of the embedder."""

    dim: int  # k, the length of a vector; also the width of the towers
    seed: int
    epochs: int
    batch: int
    negatives: int
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
    """The weights of both towers as tensors, and their optimisers."""

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
        self.consumer, self.producer = tensors(consumer), tensors(producer)
        tables, layers = [], []
        for tower in (self.consumer, self.producer):
            for name, weights in tower.items():
                (tables if name == "inputs" else layers).append(weights)
        # The first updates only the rows that a batch has: there may be a million.
        self.optimisers = [torch.optim.SparseAdam(tables), torch.optim.Adam(layers)]

    def step(self, batch: Batch, rate: float) -> float:
        """Follow the gradient of one batch; returns its loss."""
        loss = self.loss(batch)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        return float(loss.detach())

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of the batch's pairs."""
        import torch
        from torch.nn import functional

        consumers = vectors(self.consumer, batch.bags, self.profiles[batch.rows])
        own = own_ids(batch, len(self.producer["inputs"]), self.ids)
        producers = vectors(self.producer, own, self.traits[batch.producers])
        products = consumers @ producers.T - torch.from_numpy(batch.log_q)
        products = products.masked_fill(torch.from_numpy(batch.masked), -torch.inf)
        return functional.cross_entropy(products, torch.from_numpy(batch.targets))

    def towers(self) -> tuple[Tower, Tower]:
        """The weights as they are now."""
        both = []
        for tower in (self.consumer, self.producer):
            both.append(Tower(**{name: array.detach().numpy() for name, array in tower.items()}))
        return both[0], both[1]


def tensors(tower: Tower) -> dict[str, Tensor]:
    """The weights of a tower as tensors with gradients."""
    import torch

    return {name: torch.tensor(array, requires_grad=True) for name, array in vars(tower).items()}


def vectors(tower: dict[str, Tensor], bags: sp.csr_matrix, features: sp.csr_matrix) -> Tensor:
    """What `Tower.vectors` computes, with gradients; here also a row of zeros has a vector.

    bags: (n, m) float32 weights >= 0. features: (n, F).
    """
    import torch

    lengths = np.diff(bags.indptr)
    sums = np.asarray(bags.sum(axis=1), np.float32).ravel()
    empty = sums <= 0
    means = bags.copy()
    means.data = bags.data / np.repeat(np.where(empty, np.float32(1), sums), lengths)
    z = summed(tower["inputs"], means, sparse=True) + summed(tower["features"], features)
    z = z + tower["bias"][torch.from_numpy(empty.astype(np.int64))]
    units = torch.relu(z @ tower["hidden"] + tower["hidden_bias"])
    return torch.cat([z, units], dim=1) @ tower["out"]


def summed(table: Tensor, rows: sp.csr_matrix, sparse: bool = False) -> Tensor:
    """rows · table, (n, d). sparse: let the gradient of the table be, as SparseAdam takes it."""
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
        sparse=sparse,
    )


def own_ids(batch: Batch, m: int, ids: bool) -> sp.csr_matrix:
    """The bag of each producer of a batch: itself where it is known, (C, m) float32."""
    rows = np.flatnonzero(batch.known) if ids else np.empty(0, np.int64)
    shape = (len(batch.producers), m)
    ones = np.ones(len(rows), np.float32)
    return sp.csr_matrix((ones, (rows, batch.producers[rows])), shape=shape)


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


@contextmanager
def one_thread() -> Iterator[Any]:
    """torch on one thread, so that sums are added in one order; restored when the block ends."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
